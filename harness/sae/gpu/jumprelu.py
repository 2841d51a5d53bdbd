"""Triton kernels for JumpReLU on all entries [B, N], each of which reads them once. Needs Triton.

A program has BLOCK columns of ROWS rows; what is summed over rows is written for each such part, and summed by the
caller: in one order. Near a threshold is what lies within half of the bandwidth, above 0.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def forward(z, threshold, values, tokens, latents, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """values [B, N]: z where it is above the threshold, else 0."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < latents
    bound = tl.load(threshold + column, mask=inside, other=0.0)
    first = tl.program_id(1).to(tl.int64) * ROWS
    for row in range(first, tl.minimum(first + ROWS, tokens)):
        at = row * latents + column
        x = tl.load(z + at, mask=inside, other=0.0)
        tl.store(values + at, tl.where(x.to(tl.float32) > bound, x, 0.0), mask=inside)


@triton.jit
def backward(z, gradient, threshold, out, sums, tokens, latents, reach, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """out [B, N]: the gradient where z is above the threshold; sums [parts, N]: of the gradients near it."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < latents
    bound = tl.load(threshold + column, mask=inside, other=0.0)
    total = tl.zeros([BLOCK], tl.float32)
    first = tl.program_id(1).to(tl.int64) * ROWS
    for row in range(first, tl.minimum(first + ROWS, tokens)):
        at = row * latents + column
        x = tl.load(z + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(gradient + at, mask=inside, other=0.0)
        tl.store(out + at, tl.where(x > bound, g, 0.0), mask=inside)
        total += tl.where((tl.abs(x - bound) < reach) & (x > 0.0), g.to(tl.float32), 0.0)
    tl.store(sums + tl.program_id(1).to(tl.int64) * latents + column, total, mask=inside)


@triton.jit
def counts(z, threshold, above, near, tokens, latents, reach, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """above [parts, N] and near [parts, N]: how many tokens are above a latent's threshold, and near it."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < latents
    bound = tl.load(threshold + column, mask=inside, other=0.0)
    over = tl.zeros([BLOCK], tl.float32)
    close = tl.zeros([BLOCK], tl.float32)
    first = tl.program_id(1).to(tl.int64) * ROWS
    for row in range(first, tl.minimum(first + ROWS, tokens)):
        x = tl.load(z + row * latents + column, mask=inside, other=0.0).to(tl.float32)
        over += (x > bound).to(tl.float32)
        close += ((tl.abs(x - bound) < reach) & (x > 0.0)).to(tl.float32)
    part = tl.program_id(1).to(tl.int64) * latents + column
    tl.store(above + part, over, mask=inside)
    tl.store(near + part, close, mask=inside)


@triton.jit
def positive(z, sums, counts, tokens, latents, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """sums [parts, N] and counts [parts, N] of the entries above 0."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < latents
    total = tl.zeros([BLOCK], tl.float32)
    count = tl.zeros([BLOCK], tl.float32)
    first = tl.program_id(1).to(tl.int64) * ROWS
    for row in range(first, tl.minimum(first + ROWS, tokens)):
        x = tl.load(z + row * latents + column, mask=inside, other=0.0).to(tl.float32)
        total += tl.where(x <= 0.0, 0.0, x)  # NaN stays NaN
        count += (x > 0.0).to(tl.float32)
    part = tl.program_id(1).to(tl.int64) * latents + column
    tl.store(sums + part, total, mask=inside)
    tl.store(counts + part, count, mask=inside)
