"""Triton kernels: products over the dead latents alone, however many there are. Needs Triton.

Only the GPU knows how many there are (`count` [1]): a program for which none are left ends at once. Their codes
are in the first columns of a matrix [B, S], in the order of `columns` [N], which lists the dead latents. Zeros
follow up to a multiple of ALIGNED, so that several numbers can be read and written at once; the rest is never
read. S, the `stride`, is such a multiple and at least N. Operands are bfloat16 or float32, sums float32, each in
one order.
"""

from __future__ import annotations

import triton
import triton.language as tl

ALIGNED = tl.constexpr(16)


@triton.jit
def listed(dead, columns, count, latents, BLOCK: tl.constexpr):
    """One program. columns [N]: those of the latents that are dead [N], in ascending order, and their number."""
    lane = tl.arange(0, BLOCK)
    found = 0
    for start in range(0, latents, BLOCK):
        latent = start + lane
        is_dead = (tl.load(dead + latent, mask=latent < latents, other=0) > 0).to(tl.int32)
        tl.store(columns + found + tl.cumsum(is_dead, 0) - 1, latent, mask=is_dead > 0)
        found += tl.sum(is_dead, 0)
    tl.store(count, found)


@triton.jit
def magnitudes(x, BITS: tl.constexpr):
    """Numbers of BITS - 1 bits in the order of x, which is positive, 0 or NaN; NaN is the largest of all."""
    keys = x.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF
    if BITS == 16:
        keys = keys >> 16
    return keys


@triton.jit
def strongest(dense, columns, count, codes, latents, stride, k, BITS: tl.constexpr, BLOCK: tl.constexpr):
    """A program for each row of dense [B, N]. codes: the k largest of the dead entries where above 0, else 0.

    The k-th largest is found by bisection. Of equal ones the first are taken.
    """
    dense += tl.program_id(0).to(tl.int64) * latents
    codes += tl.program_id(0).to(tl.int64) * stride
    dead = tl.load(count)
    end = tl.cdiv(dead, ALIGNED) * ALIGNED
    lane = tl.arange(0, BLOCK)
    positive = tl.zeros([BLOCK], tl.int32)
    for start in range(0, end, BLOCK):
        place = start + lane
        latent = tl.load(columns + place, mask=place < dead, other=0)
        x = tl.load(dense + latent, mask=place < dead, other=0.0)
        x = tl.where(x <= 0.0, 0.0, x)  # NaN stays NaN
        tl.store(codes + place, x, mask=place < end)
        positive += (x != 0.0).to(tl.int32)
    tl.debug_barrier()  # other threads may read what these have written
    if tl.sum(positive, 0) > k:
        low = 0
        high = 2 ** (BITS - 1) - 1
        for _ in range(BITS - 1):
            half = high - ((high - low) >> 1)  # rounded up
            count_of = tl.zeros([BLOCK], tl.int32)
            for start in range(0, end, BLOCK):
                place = start + lane
                x = tl.load(codes + place, mask=place < end, other=0.0)
                count_of += (magnitudes(x, BITS) >= half).to(tl.int32)
            enough = tl.sum(count_of, 0) >= k
            low = tl.where(enough, half, low)
            high = tl.where(enough, high, tl.maximum(low, half - 1))
        above = tl.zeros([BLOCK], tl.int32)
        for start in range(0, end, BLOCK):
            place = start + lane
            x = tl.load(codes + place, mask=place < end, other=0.0)
            above += (magnitudes(x, BITS) > low).to(tl.int32)
        ties = k - tl.sum(above, 0)
        for start in range(0, end, BLOCK):
            place = start + lane
            x = tl.load(codes + place, mask=place < end, other=0.0)
            key = magnitudes(x, BITS)
            tie = (key == low).to(tl.int32)
            kept = (key > low) | ((tie > 0) & (tl.cumsum(tie, 0) <= ties))
            tl.store(codes + place, tl.where(kept, x, 0.0), mask=place < end)
            ties -= tl.sum(tie, 0)


@triton.jit
def decoded(
    codes, weight, columns, count, out, tokens, stride, width,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """out [B, W]: codes of the dead times their rows of weight [N, W]. A program for ROWS tokens, COLUMNS of W."""
    parts = tl.cdiv(width, COLUMNS)
    token = (tl.program_id(0) // parts).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % parts) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    dead = tl.load(count)
    end = tl.cdiv(dead, ALIGNED) * ALIGNED
    left = codes + token[:, None] * stride + depth[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, dead, DEPTH):
        there = start + depth < dead
        latent = tl.load(columns + start + depth, mask=there, other=0).to(tl.int64)
        a = tl.load(left + start, mask=(token < tokens)[:, None] & (start + depth < end)[None, :], other=0.0)
        right = weight + latent[:, None] * width + column[None, :]
        b = tl.load(right, mask=there[:, None] & (column < width)[None, :], other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    inside = (token < tokens)[:, None] & (column < width)[None, :]
    tl.store(out + token[:, None] * width + column[None, :], total, mask=inside)


@triton.jit
def code_gradient(
    rows, weight, columns, count, codes, out, sums, tokens, stride, width,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """out: rows [B, W] times the dead rows of weight [N, W], where codes are not 0.

    sums [parts of B, S]: of its columns. A program for ROWS tokens and COLUMNS of the dead.
    """
    parts = tl.cdiv(tokens, ROWS)
    first = (tl.program_id(0) // parts) * COLUMNS
    part = tl.program_id(0) % parts
    dead = tl.load(count)
    if first >= dead:
        return
    token = part.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    place = first + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    latent = tl.load(columns + place, mask=place < dead, other=0).to(tl.int64)
    left = rows + token[:, None] * width + depth[None, :]
    right = weight + latent[None, :] * width + depth[:, None]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, width, DEPTH):
        there = start + depth < width
        a = tl.load(left + start, mask=(token < tokens)[:, None] & there[None, :], other=0.0)
        b = tl.load(right + start, mask=there[:, None] & (place < dead)[None, :], other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    inside = (token < tokens)[:, None] & (place < tl.cdiv(dead, ALIGNED) * ALIGNED)[None, :]
    at = token[:, None] * stride + place[None, :]
    code = tl.load(codes + at, mask=inside, other=0.0)
    total = tl.where(code != 0.0, total, 0.0)
    tl.store(out + at, total.to(code.dtype), mask=inside)
    tl.store(sums + part * stride + place, tl.sum(total, 0), mask=place < dead)


@triton.jit
def put_totals(sums, columns, count, totals, parts, stride, BLOCK: tl.constexpr):
    """totals [N]: at the dead, the sum of sums [parts, S] over parts."""
    first = tl.program_id(0) * BLOCK
    dead = tl.load(count)
    if first >= dead:
        return
    place = first + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for part in range(0, parts):
        total += tl.load(sums + part * stride + place, mask=place < dead, other=0.0)
    latent = tl.load(columns + place, mask=place < dead, other=0)
    tl.store(totals + latent, total, mask=place < dead)


@triton.jit
def add_rows(
    one, one_rows, one_gradient, one_width, two, two_rows, two_gradient, two_width,
    columns, count, tokens, stride,
    PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Adds to two gradients [N, W], by program_id(1): codes of the dead, transposed, times rows [B, W].

    A program for ROWS of the dead and COLUMNS of W.
    """
    if tl.program_id(1) == 0:
        codes, rows, gradient, width = one, one_rows, one_gradient, one_width
    else:
        codes, rows, gradient, width = two, two_rows, two_gradient, two_width
    parts = tl.cdiv(width, COLUMNS)
    first = (tl.program_id(0) // parts) * ROWS
    dead = tl.load(count)
    if first >= dead:
        return
    place = first + tl.arange(0, ROWS)
    column = (tl.program_id(0) % parts) * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    within = (place < tl.cdiv(dead, ALIGNED) * ALIGNED)[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    left = depth[:, None] * stride + place[None, :]
    right = depth[:, None] * width + column[None, :]
    for start in range(0, tokens, DEPTH):
        there = (start + depth < tokens)[:, None]
        a = tl.load(codes + left, mask=there & within, other=0.0)
        b = tl.load(rows + right, mask=there & (column < width)[None, :], other=0.0)
        codes += DEPTH * stride
        rows += DEPTH * width
        total = tl.dot(tl.trans(a), b, total, input_precision=PRECISION)
    latent = tl.load(columns + place, mask=place < dead, other=0).to(tl.int64)
    at = gradient + latent[:, None] * width + column[None, :]
    inside = (place < dead)[:, None] & (column < width)[None, :]
    tl.store(at, tl.load(at, mask=inside, other=0.0) + total, mask=inside)


@triton.jit
def squares(target, reconstruction, answer, count, sums, tokens, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """sums [3, parts, W], over ROWS tokens each: of errors, their squares, and those of answer less error."""
    parts = tl.num_programs(1)
    token = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (token < tokens)[:, None] & (column < width)[None, :]
    at = token[:, None] * width + column[None, :]
    error = tl.load(target + at, mask=inside, other=0.0) - tl.load(reconstruction + at, mask=inside, other=0.0)
    missed = tl.load(answer + at, mask=inside & (tl.load(count) > 0), other=0.0) - error
    place = tl.program_id(1) * width + column
    tl.store(sums + place, tl.sum(error, 0), mask=column < width)
    tl.store(sums + parts * width + place, tl.sum(error * error, 0), mask=column < width)
    tl.store(sums + 2 * parts * width + place, tl.sum(missed * missed, 0), mask=column < width)


@triton.jit
def squares_gradient(target, reconstruction, answer, count, factor, gradient, size, BLOCK: tl.constexpr):
    """gradient: factor [1] times answer less error; 0 where none is dead."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    there = inside & (tl.load(count) > 0)
    error = tl.load(target + at, mask=there, other=0.0) - tl.load(reconstruction + at, mask=there, other=0.0)
    missed = tl.load(answer + at, mask=there, other=0.0) - error
    tl.store(gradient + at, tl.load(factor) * missed, mask=inside)
