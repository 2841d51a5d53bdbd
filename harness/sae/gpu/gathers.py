"""Triton kernels: sums and products of the rows that active entries name. `harness.sae.gpu.active` calls them.

Numbers are read as they lie there (float32 or bfloat16) and summed in float32, each sum in one order: the same
input gives the same bits. Nothing is added atomically but whole numbers.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def entries_of(starts, token, tokens, entries, every, EVEN: tl.constexpr):
    """A token's first entry and the place after its last one. every: entries for each token where all have as
    many, which EVEN says; else they begin at `starts`."""
    if EVEN:
        first = token * every
        last = first + every
    else:
        first = tl.load(starts + token).to(tl.int64)
        last = tl.load(starts + token + 1, mask=token + 1 < tokens, other=entries).to(tl.int64)
    return first, last


@triton.jit
def weighted_rows(
    indices, values, starts, weight, bias, out, tokens, entries, width: tl.constexpr, every,
    EVEN: tl.constexpr, BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program for each token and BLOCK columns. The compiler knows the width: what lies behind is left out."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    if width > BLOCK:
        column += tl.program_id(1) * BLOCK
    inside = column < width
    first, last = entries_of(starts, token, tokens, entries, every, EVEN)
    total = tl.zeros([BLOCK], tl.float32)
    if BIAS:
        total += tl.load(bias + column, mask=inside, other=0.0)
    for entry in range(first, last):
        latent = tl.load(indices + entry).to(tl.int64)
        value = tl.load(values + entry).to(tl.float32)
        row = tl.load(weight + latent * width + column, mask=inside, other=0.0).to(tl.float32)
        total += tl.where(inside, value * row, 0.0)
    tl.store(out + token * width + column, total, mask=inside)


@triton.jit
def inner_products(
    indices, starts, rows, weight, bias, out, tokens, entries, width: tl.constexpr, every,
    EVEN: tl.constexpr, BIAS: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program for each token, which reads ENTRIES rows of weight at once, BLOCK columns at a time."""
    token = tl.program_id(0).to(tl.int64)
    first, last = entries_of(starts, token, tokens, entries, every, EVEN)
    for start in range(first, last, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        there = entry < last
        latent = tl.load(indices + entry, mask=there, other=0).to(tl.int64)
        total = tl.zeros([ENTRIES, BLOCK], tl.float32)
        for begin in range(0, width, BLOCK):
            column = begin + tl.arange(0, BLOCK)
            inside = column < width
            row = tl.load(rows + token * width + column, mask=inside, other=0.0).to(tl.float32)
            other = weight + latent[:, None] * width + column[None, :]
            total += row[None, :] * tl.load(other, mask=there[:, None] & inside[None, :], other=0.0).to(tl.float32)
        products = tl.sum(total, 1)
        if BIAS:
            products += tl.load(bias + latent, mask=there, other=0.0)
        tl.store(out + entry, products, mask=there)


@triton.jit
def bounds_by_latent(ordered, starts, ends, entries, BLOCK: tl.constexpr):
    """Where in `ordered` [A], latents in ascending order, each of them that is there begins and ends: [N], [N]."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < entries
    here = tl.load(ordered + place, mask=inside, other=0).to(tl.int32)
    before = tl.load(ordered + place - 1, mask=inside & (place > 0), other=-1).to(tl.int32)
    behind = tl.load(ordered + place + 1, mask=place + 1 < entries, other=-1).to(tl.int32)
    tl.store(starts + here, place, mask=inside & (here != before))
    tl.store(ends + here, place + 1, mask=inside & (here != behind))


@triton.jit
def firings(indices, values, counts, entries, BLOCK: tl.constexpr):
    """Adds to counts [N] how many values of each latent are above 0; whole numbers have one sum in any order."""
    entry = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = entry < entries
    latent = tl.load(indices + entry, mask=inside, other=0)
    value = tl.load(values + entry, mask=inside, other=0.0)
    tl.atomic_add(counts + latent, 1, mask=inside & (value > 0), sem="relaxed")


@triton.jit
def finished(
    latent, column, row, total, weight, out, totals, squares, along, width,
    SQUARES: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """Stores a latent's sums: its row, of which this program has these columns, and its total.

    SQUARES: the sum of the row's squares, too; ACROSS: without its part along the row of weight, which has unit
    norm, and that part.
    """
    inside = column < width
    tl.store(out + latent * width + column, row, mask=inside)
    if tl.program_id(1) == 0:
        tl.store(totals + latent, total)
    if SQUARES:
        if ACROSS:
            w = tl.load(weight + latent * width + column, mask=inside, other=0.0)
            part = tl.sum(row * w, 0)
            row -= part * w
            tl.store(along + latent, part)
        tl.store(squares + latent, tl.sum(row * row, 0))


@triton.jit
def weighted_tokens(
    order, ordered, starts, ends, tokens, values, rows, weight, pieces, piece_totals, out, totals, squares, along,
    entries, width: tl.constexpr, every, cuts,
    EVEN: tl.constexpr, SQUARES: tl.constexpr, ACROSS: tl.constexpr,
    PIECE: tl.constexpr, ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums over a latent's entries, of which a program takes PIECE at most and reads ENTRIES rows at once.

    The entries, ordered by latent, are cut into PIECE at a time. A latent with more than that has the first or the
    last entry of each cut that it has a part in: two programs for each cut put their sums into `pieces`, for
    `joined_tokens`. The programs after these have a latent each.

    tokens: of each entry, if there are not `every` for each of them, which EVEN says.
    """
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    if width > BLOCK:
        column += tl.program_id(1) * BLOCK
    inside = column < width
    of_cut = program < 2 * cuts
    begin = (program // 2) * PIECE
    end = tl.minimum(begin + PIECE, entries)
    second = program % 2 == 1
    owner_of_first = tl.load(ordered + begin, mask=of_cut, other=0).to(tl.int64)
    owner_of_last = tl.load(ordered + end - 1, mask=of_cut, other=0).to(tl.int64)
    owner = tl.where(second, owner_of_last, owner_of_first)
    latent = tl.where(of_cut, owner, program - 2 * cuts)
    first = tl.load(starts + latent)
    last = tl.load(ends + latent)
    long = last - first > PIECE
    if of_cut:
        wanted = long & ((owner_of_first != owner_of_last) | (program % 2 == 0))
        first = tl.maximum(first, begin)
        last = tl.minimum(last, end)
    else:
        wanted = last - first <= PIECE
    if wanted:
        row = tl.zeros([BLOCK], tl.float32)
        total = tl.zeros([ENTRIES], tl.float32)
        for start in range(first, last, ENTRIES):
            place = start + tl.arange(0, ENTRIES)
            there = place < last
            entry = tl.load(order + place, mask=there, other=0)
            token = entry.to(tl.int32) // every if EVEN else tl.load(tokens + entry, mask=there, other=0)
            value = tl.load(values + entry, mask=there, other=0.0).to(tl.float32)
            read = rows + token.to(tl.int64)[:, None] * width + column[None, :]
            taken = tl.load(read, mask=there[:, None] & inside[None, :], other=0.0).to(tl.float32)
            row += tl.sum(tl.where(inside[None, :], value[:, None] * taken, 0.0), 0)
            total += value
        if of_cut:
            tl.store(pieces + program.to(tl.int64) * width + column, row, mask=inside)
            tl.store(piece_totals + program, tl.sum(total, 0))
        else:
            finished(
                latent, column, row, tl.sum(total, 0), weight, out, totals, squares, along, width, SQUARES, ACROSS
            )


@triton.jit
def joined_tokens(
    ordered, starts, ends, weight, pieces, piece_totals, out, totals, squares, along, entries, width,
    SQUARES: tl.constexpr, ACROSS: tl.constexpr, PIECE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program for each cut of `weighted_tokens`: adds up the pieces, if any, of the latent that ends there."""
    cut = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    latent = tl.load(ordered + cut * PIECE).to(tl.int64)
    first = tl.load(starts + latent)
    last = tl.load(ends + latent)
    if (last - first > PIECE) & (last <= (cut + 1) * PIECE):
        row = tl.zeros([BLOCK], tl.float32)
        total = tl.zeros([1], tl.float32)
        for part in range(first // PIECE, cut + 1):
            piece = 2 * part + (part * PIECE < first).to(tl.int32)
            row += tl.load(pieces + piece.to(tl.int64) * width + column, mask=column < width, other=0.0)
            total += tl.load(piece_totals + piece)
        finished(
            latent, column, row, tl.sum(total, 0), weight, out, totals, squares, along, width, SQUARES, ACROSS
        )


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
