"""Triton kernels: Adam with all that surrounds it, in two passes over the numbers. Needs Triton.

The first pass reads gradients: how long they are together, without the part of a decoder row's that lies along the
row. The second one reads and writes each number once: projection, clipping, moments, weight, and the decoder's
unit norm. Sums have one order.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def squares(gradient, sums, size, BLOCK: tl.constexpr):
    """sums: of the squares of BLOCK numbers at a time."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(gradient + at, mask=at < size, other=0.0)
    tl.store(sums + tl.program_id(0), tl.sum(g * g, 0))


@triton.jit
def squares_across(gradient, weight, along, sums, width, BLOCK: tl.constexpr):
    """A program for each row. along [N]: the gradient's part along the weight's row, which has unit norm.

    sums [N]: of the squares of the rest.
    """
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    g = tl.load(gradient + row * width + column, mask=column < width, other=0.0)
    w = tl.load(weight + row * width + column, mask=column < width, other=0.0)
    part = tl.sum(g * w, 0)
    rest = g - part * w
    tl.store(along + row, part)
    tl.store(sums + row, tl.sum(rest * rest, 0))


@triton.jit
def clip_factor(sums, factor, count, limit, BLOCK: tl.constexpr):
    """factor [1]: what brings a gradient with these sums of squares down to a norm of `limit`, or 1, or NaN."""
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, count, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(sums + at, mask=at < count, other=0.0)
    wanted = limit / (tl.sqrt(tl.sum(total, 0)) + 1e-6)
    tl.store(factor, tl.where(wanted >= 1.0, 1.0, wanted))


@triton.jit
def moved(w, g, first, second, at, inside, rates, decay, beta1, rest1, beta2, rest2, eps):
    """The weights w after a step along g; moments are read and written.

    rates [3]: the learning rate; the same over the first moment's bias correction; 1 / root of the second's.
    """
    m = beta1 * tl.load(first + at, mask=inside, other=0.0) + rest1 * g
    v = beta2 * tl.load(second + at, mask=inside, other=0.0) + rest2 * g * g
    tl.store(first + at, m, mask=inside)
    tl.store(second + at, v, mask=inside)
    return w * (1.0 - tl.load(rates) * decay) - tl.load(rates + 1) * m / (tl.sqrt(v) * tl.load(rates + 2) + eps)


@triton.jit
def step(
    weight, gradient, rounded, first, second, rates, factor, size, decay, beta1, rest1, beta2, rest2, eps,
    ROUND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A step of any parameter, BLOCK numbers for each program. rounded: its copy in bfloat16, if it has one."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    g = tl.load(gradient + at, mask=inside, other=0.0) * tl.load(factor)
    w = tl.load(weight + at, mask=inside, other=0.0)
    w = moved(w, g, first, second, at, inside, rates, decay, beta1, rest1, beta2, rest2, eps)
    tl.store(weight + at, w, mask=inside)
    if ROUND:
        tl.store(rounded + at, w.to(tl.bfloat16), mask=inside)


@triton.jit
def step_across(
    weight, gradient, rounded, along, first, second, rates, factor, width, decay, beta1, rest1, beta2, rest2, eps,
    ROUND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A step of a decoder, a row for each program, across the row; it ends in unit norm."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    at = row * width + column
    inside = column < width
    w = tl.load(weight + at, mask=inside, other=0.0)
    g = (tl.load(gradient + at, mask=inside, other=0.0) - tl.load(along + row) * w) * tl.load(factor)
    w = moved(w, g, first, second, at, inside, rates, decay, beta1, rest1, beta2, rest2, eps)
    w = tl.where(inside, w, 0.0)
    w = w / tl.maximum(tl.sqrt(tl.sum(w * w, 0)), 1e-12)
    tl.store(weight + at, w, mask=inside)
    if ROUND:
        tl.store(rounded + at, w.to(tl.bfloat16), mask=inside)
