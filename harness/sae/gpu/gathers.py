"""Triton kernels: sums and products of the rows that active entries name. `harness.sae.gpu` calls them.

Numbers are read as they lie there (float32 or bfloat16) and summed in float32, each sum in one order: the same
input gives the same bits. Nothing is added atomically.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def end_of(starts, place, places, entries):
    """The place after the last entry of a token or latent, given where each begins."""
    return tl.load(starts + place + 1, mask=place + 1 < places, other=entries)


@triton.jit
def weighted_rows(indices, values, starts, weight, out, tokens, entries, width, BLOCK: tl.constexpr):
    """A program for each token and BLOCK columns."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    first = tl.load(starts + token)
    last = end_of(starts, token, tokens, entries)
    total = tl.zeros([BLOCK], tl.float32)
    for entry in range(first, last):
        latent = tl.load(indices + entry).to(tl.int64)
        value = tl.load(values + entry).to(tl.float32)
        total += value * tl.load(weight + latent * width + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + token * width + column, total, mask=inside)


@triton.jit
def inner_products(
    indices, starts, rows, weight, out, tokens, entries, width, ENTRIES: tl.constexpr, BLOCK: tl.constexpr
):
    """A program for each token; ENTRIES of its products at a time, a warp for each."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    first = tl.load(starts + token)
    last = end_of(starts, token, tokens, entries)
    row = tl.load(rows + token * width + column, mask=column < width, other=0.0).to(tl.float32)
    for start in range(first, last, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        latent = tl.load(indices + entry, mask=entry < last, other=0).to(tl.int64)
        other = weight + latent[:, None] * width
        there = (entry < last)[:, None]
        read = tl.load(other + column[None, :], mask=there & (column < width)[None, :], other=0.0)
        total = row[None, :] * read.to(tl.float32)
        for behind in range(BLOCK, width, BLOCK):
            at = behind + column
            left = tl.load(rows + token * width + at, mask=at < width, other=0.0).to(tl.float32)
            right = tl.load(other + at[None, :], mask=there & (at < width)[None, :], other=0.0)
            total += left[None, :] * right.to(tl.float32)
        tl.store(out + entry, tl.sum(total, 1), mask=entry < last)


@triton.jit
def sum_of_tokens(order, tokens, values, rows, first, last, column, width, BLOCK: tl.constexpr):
    """Of the entries from first to last in the order by latent: value times token row."""
    total = tl.zeros([BLOCK], tl.float32)
    for place in range(first, last):
        token = tl.load(tokens + place).to(tl.int64)
        value = tl.load(values + tl.load(order + place)).to(tl.float32)
        total += value * tl.load(rows + token * width + column, mask=column < width, other=0.0).to(tl.float32)
    return total


@triton.jit
def pieces_of_tokens(
    order,
    tokens,
    owners,
    starts,
    values,
    rows,
    pieces,
    latents,
    entries,
    width,
    PIECE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What `weighted_tokens` needs of latents with over PIECE entries: sums over PIECE of them at most.

    The entries, ordered by latent, are cut into PIECE at a time. Such a latent has the first or the last entry of
    each cut that it has a part in: there are two programs for each.

    owners: the latent of each entry in this order.
    """
    cut = tl.program_id(0) // 2
    begin = cut * PIECE
    end = tl.minimum(begin + PIECE, entries)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    owner_of_first = tl.load(owners + begin)
    owner_of_last = tl.load(owners + end - 1)
    second = tl.program_id(0) % 2
    owner = tl.where(second == 1, owner_of_last, owner_of_first)
    first = tl.load(starts + owner)
    last = end_of(starts, owner, latents, entries)
    if (last - first > PIECE) & ((owner_of_first != owner_of_last) | (second == 0)):
        total = sum_of_tokens(
            order, tokens, values, rows, tl.maximum(first, begin), tl.minimum(last, end), column, width, BLOCK
        )
        tl.store(pieces + tl.program_id(0).to(tl.int64) * width + column, total, mask=column < width)


@triton.jit
def weighted_tokens(
    order,
    tokens,
    starts,
    values,
    rows,
    pieces,
    out,
    latents,
    entries,
    width,
    PIECE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program for each latent and BLOCK columns. One with over PIECE entries adds up its `pieces_of_tokens`,
    since all would wait for one that fires on every token."""
    latent = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(starts + latent)
    last = end_of(starts, latent, latents, entries)
    if last - first > PIECE:
        total = tl.zeros([BLOCK], tl.float32)
        for cut in range(first // PIECE, (last - 1) // PIECE + 1):
            piece = 2 * cut + (cut * PIECE < first).to(tl.int64)
            total += tl.load(pieces + piece * width + column, mask=column < width, other=0.0)
    else:
        total = sum_of_tokens(order, tokens, values, rows, first, last, column, width, BLOCK)
    tl.store(out + latent * width + column, total, mask=column < width)


@triton.jit
def totals(order, starts, values, out, latents, entries, BLOCK: tl.constexpr):
    """A program for each latent: the sum of its values, BLOCK at a time."""
    latent = tl.program_id(0)
    first = tl.load(starts + latent)
    last = end_of(starts, latent, latents, entries)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(first, last, BLOCK):
        place = start + tl.arange(0, BLOCK)
        entry = tl.load(order + place, mask=place < last, other=0)
        total += tl.load(values + entry, mask=place < last, other=0.0).to(tl.float32)
    tl.store(out + latent, tl.sum(total, 0))


@triton.jit
def project(gradient, weight, width, BLOCK: tl.constexpr):
    """A program for each row: takes from the gradient's its part along the weight's, which has unit norm."""
    row = tl.program_id(0).to(tl.int64) * width
    column = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, width, BLOCK):
        at = start + column
        total += tl.load(gradient + row + at, mask=at < width, other=0.0) * tl.load(
            weight + row + at, mask=at < width, other=0.0
        )
    along = tl.sum(total, 0)
    for start in range(0, width, BLOCK):
        at = start + column
        left = tl.load(gradient + row + at, mask=at < width, other=0.0)
        right = tl.load(weight + row + at, mask=at < width, other=0.0)
        tl.store(gradient + row + at, left - along * right, mask=at < width)


@triton.jit
def normalise(weight, width, BLOCK: tl.constexpr):
    """A program for each row, which is brought to unit norm; one of zeros stays one."""
    row = tl.program_id(0).to(tl.int64) * width
    column = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, width, BLOCK):
        at = start + column
        value = tl.load(weight + row + at, mask=at < width, other=0.0)
        total += value * value
    norm = tl.maximum(tl.sqrt(tl.sum(total, 0)), 1e-12)
    for start in range(0, width, BLOCK):
        at = start + column
        value = tl.load(weight + row + at, mask=at < width, other=0.0)
        tl.store(weight + row + at, value / norm, mask=at < width)
