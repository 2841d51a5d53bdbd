"""Triton kernels: what Muon does besides its iterations, in two passes over the numbers. Needs Triton.

The first pass reads gradient and momentum, projects and clips, and writes the momentum, the direction to
orthogonalise in bfloat16, and sums of its squares. The second one takes the step, with the decoder's unit norm.
Sums have one order.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def blended(g, momentum, at, inside, rest):
    """Nesterov's direction: the gradient g and its running mean, which is read and written. rest: 1 - decay."""
    m = tl.load(momentum + at, mask=inside, other=0.0)
    m += rest * (g - m)
    tl.store(momentum + at, m, mask=inside)
    return m + rest * (g - m)


@triton.jit
def direct(gradient, momentum, direction, factor, sums, size, rest, BLOCK: tl.constexpr):
    """direction and sums of its squares, BLOCK numbers for each program. factor [1]: of gradients."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    g = tl.load(gradient + at, mask=inside, other=0.0) * tl.load(factor)
    d = blended(g, momentum, at, inside, rest)
    tl.store(direction + at, d.to(tl.bfloat16), mask=inside)
    tl.store(sums + tl.program_id(0), tl.sum(d * d, 0))


@triton.jit
def direct_across(
    gradient, weight, along, momentum, direction, factor, sums, width, rest, BLOCK: tl.constexpr
):  # fmt: skip
    """The same of a decoder, a row for each program, of the gradient's part across the row."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    at = row * width + column
    inside = column < width
    w = tl.load(weight + at, mask=inside, other=0.0)
    g = (tl.load(gradient + at, mask=inside, other=0.0) - tl.load(along + row) * w) * tl.load(factor)
    d = blended(g, momentum, at, inside, rest)
    tl.store(direction + at, d.to(tl.bfloat16), mask=inside)
    tl.store(sums + row, tl.sum(d * d, 0))


@triton.jit
def step(weight, update, rounded, rate, size, scale, ROUND: tl.constexpr, BLOCK: tl.constexpr):
    """A step of any matrix along its update, BLOCK numbers for each program. rounded: its copy in bfloat16."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    w = tl.load(weight + at, mask=inside, other=0.0)
    w -= tl.load(rate) * scale * tl.load(update + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(weight + at, w, mask=inside)
    if ROUND:
        tl.store(rounded + at, w.to(tl.bfloat16), mask=inside)


@triton.jit
def step_to_unit_norm(weight, update, rounded, rate, width, scale, ROUND: tl.constexpr, BLOCK: tl.constexpr):
    """A step of a decoder, a row for each program; it ends in unit norm."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    at = row * width + column
    inside = column < width
    w = tl.load(weight + at, mask=inside, other=0.0)
    w -= tl.load(rate) * scale * tl.load(update + at, mask=inside, other=0.0).to(tl.float32)
    w = tl.where(inside, w, 0.0)
    w = w / tl.maximum(tl.sqrt(tl.sum(w * w, 0)), 1e-12)
    tl.store(weight + at, w, mask=inside)
    if ROUND:
        tl.store(rounded + at, w.to(tl.bfloat16), mask=inside)
