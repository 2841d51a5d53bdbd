"""Triton kernels: the k largest of a float32 product, found by one in float16. Needs Triton.

The product in float16 leaves few candidates for each token, and a bound on its error says whether any other latent
can be among the k largest. Candidates are computed again in float32. Tokens of which that cannot be said get their
product with all latents in float32; where there are none, the programs for them end at once. Nobody waits to
learn how many there are. Sums have one order.

The error of an entry, by the Cauchy-Schwarz inequality: x·w - x'·w' = (x - x')·w + x'·(w - w') for rounded x', w'.
"""

from __future__ import annotations

import triton
import triton.language as tl

from harness.sae.gpu.selection import groups_of, keys_of, largest, members_of

LARGEST = tl.constexpr(65504.0)  # of float16
ROUNDING = tl.constexpr(1.01 * 2.0**-11)  # to float16, relative
SMALLEST = tl.constexpr(2.0**-24)  # the same where float16 has fewer bits, absolute, with room to spare
SUM = tl.constexpr(2.0**-23)  # of each term of a sum on tensor cores, relative: more than they cut off
ROOM_TO_SPARE = tl.constexpr(1.001)  # for the rounding of the bound itself


@triton.jit
def round_rows(rows, rounded, lengths, count, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """ROWS for each program. rounded: in float16. lengths [2, count]: of the rows, and of what rounding took."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    begin = row.to(tl.int64)[:, None] * width
    whole = tl.zeros([ROWS, BLOCK], tl.float32)
    taken = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = (row < count)[:, None] & (column < width)[None, :]
        x = tl.load(rows + begin + column[None, :], mask=inside, other=0.0)
        half = x.to(tl.float16)
        tl.store(rounded + begin + column[None, :], half, mask=inside)
        left = x - half.to(tl.float32)
        whole += x * x
        taken += left * left
    tl.store(lengths + row, tl.sqrt(tl.sum(whole, 1)), mask=row < count)
    tl.store(lengths + count + row, tl.sqrt(tl.sum(taken, 1)), mask=row < count)


@triton.jit
def limits_of(lengths, bias, rounded, limits, latents, BLOCK: tl.constexpr):
    """limits [3]: the longest of all rows, the most that rounding took of one, and of a bias; infinite where there
    is no number. rounded [N]: the bias in float16."""
    longest = tl.zeros([BLOCK], tl.float32)
    taken = tl.zeros([BLOCK], tl.float32)
    shift = tl.zeros([BLOCK], tl.float32)
    for start in range(0, latents, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < latents
        length = tl.load(lengths + at, mask=inside, other=0.0)
        left = tl.load(lengths + latents + at, mask=inside, other=0.0)
        b = tl.load(bias + at, mask=inside, other=0.0)
        half = b.to(tl.float16)
        tl.store(rounded + at, half, mask=inside)
        longest = tl.maximum(longest, length, propagate_nan=tl.PropagateNan.ALL)
        taken = tl.maximum(taken, left, propagate_nan=tl.PropagateNan.ALL)
        shift = tl.maximum(shift, tl.abs(b - half.to(tl.float32)), propagate_nan=tl.PropagateNan.ALL)
    infinite = float("inf")
    tl.store(limits, tl.max(tl.where(longest < infinite, longest, infinite), 0))
    tl.store(limits + 1, tl.max(tl.where(taken < infinite, taken, infinite), 0))
    tl.store(limits + 2, tl.max(tl.where(shift < infinite, shift, infinite), 0))


@triton.jit
def below(entry, error):
    """What an entry of the rough product is not below if the real one is no smaller than `entry`."""
    bound = entry - ROOM_TO_SPARE * error
    return bound - ROUNDING * tl.maximum(tl.abs(entry), tl.abs(bound)) - SMALLEST


@triton.jit
def candidates_of(
    rough, groups, lengths, limits, places, counts, errors, tokens, latents, width, k, wanted,
    BITS: tl.constexpr, BLOCK: tl.constexpr, SIZE: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """places [B, wanted]: latents that can be among the k largest, the k largest in float16 first; of more than
    `wanted`, the largest. counts [B]: how many; 0: nothing is known. errors [B]: of any entry of the rough
    product, before what came out was rounded.

    `groups` [B, wanted] hold the `wanted` largest of rough [B, N]. k latents are no smaller than the k-th of these
    less the error; what is smaller than that by more than the error is not among the k largest.
    """
    row = tl.program_id(0).to(tl.int64)
    rough += row * latents
    slot = tl.arange(0, ROOM)
    group = slot // SIZE
    place = tl.load(groups + row * wanted + group, mask=group < wanted, other=0) + (slot % SIZE) * BLOCK
    there = (group < wanted) & (place < latents)
    x = tl.load(rough + place, mask=there, other=-float("inf")).to(tl.float32)
    keys = keys_of(x, there, BITS)
    first = largest(keys, k, BITS)
    least = tl.min(tl.where(first > 0, x, float("inf")), 0)
    length = tl.load(lengths + row) + tl.load(lengths + tokens + row)
    longest = tl.load(limits)
    error = tl.load(lengths + tokens + row) * longest + length * tl.load(limits + 1)
    error += width * SUM * length * longest + tl.load(limits + 2)
    bound = below(below(least, error), error)
    near = (there & (x >= bound)).to(tl.int32)
    if tl.sum(near, 0) > wanted:
        near = largest(keys, wanted, BITS)
    # What overflowed says nothing. False where anything is not a number.
    known = (tl.max(x, 0) <= LARGEST) & (bound > -LARGEST)
    count = tl.where(known, tl.sum(near, 0), 0)
    tl.store(counts + row, count)
    tl.store(errors + row, error)
    at = tl.where(first > 0, tl.cumsum(first, 0), k + tl.cumsum(near - first, 0)) - 1
    tl.store(places + row * wanted + at, place, mask=(near > 0) & (count > 0))


@triton.jit
def sums_of(latent, there, row, begin, weight, width, BLOCK: tl.constexpr):
    """A token's row times these rows of the weight. row: its first BLOCK columns; begin: where it begins."""
    column = tl.arange(0, BLOCK)
    other = weight + latent[:, None] * width
    inside = there[:, None] & (column < width)[None, :]
    total = row[None, :] * tl.load(other + column[None, :], mask=inside, other=0.0)
    for behind in range(BLOCK, width, BLOCK):
        at = behind + column
        inside = there[:, None] & (at < width)[None, :]
        left = tl.load(begin + at, mask=at < width, other=0.0)
        total += left[None, :] * tl.load(other + at[None, :], mask=inside, other=0.0)
    return tl.sum(total, 1)


@triton.jit
def entries_of(
    rough, places, counts, errors, rows, weight, bias, entries, latents, width, k, wanted,
    ENTRIES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """entries [B, wanted]: the candidates' in float32, and minus infinity for those that are not computed.

    The first k are. Others are where they are not below these by more than the error. If that makes as many as
    there is room for, there may be more, and counts [B] becomes 0. A program for each token; ENTRIES at a time, a
    warp for each.
    """
    token = tl.program_id(0).to(tl.int64)
    places += token * wanted
    entries += token * wanted
    rows += token * width
    column = tl.arange(0, BLOCK)
    count = tl.load(counts + token)
    row = tl.load(rows + column, mask=column < width, other=0.0)
    least = tl.full([ENTRIES], float("inf"), tl.float32)
    for start in range(0, tl.minimum(count, k), ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        there = entry < k
        latent = tl.load(places + entry, mask=there, other=0).to(tl.int64)
        sums = sums_of(latent, there, row, rows, weight, width, BLOCK) + tl.load(bias + latent)
        tl.store(entries + entry, sums, mask=there)
        least = tl.minimum(least, tl.where(there, sums, float("inf")))
    bound = below(tl.min(least, 0), tl.load(errors + token))
    near = tl.zeros([ENTRIES], tl.int32)
    for start in range(k, count, ENTRIES):
        entry = start + tl.arange(0, ENTRIES)
        there = entry < count
        latent = tl.load(places + entry, mask=there, other=0).to(tl.int64)
        guess = tl.load(rough + token * latents + latent, mask=there, other=0.0).to(tl.float32)
        there = there & (guess >= bound)
        sums = sums_of(latent, there, row, rows, weight, width, BLOCK) + tl.load(bias + latent)
        tl.store(entries + entry, tl.where(there, sums, -float("inf")), mask=entry < count)
        near += there.to(tl.int32)
    if k + tl.sum(near, 0) >= wanted:
        tl.store(counts + token, 0)


@triton.jit
def largest_entries(places, counts, entries, values, indices, k, wanted, ROOM: tl.constexpr):
    """values [B, k] and indices [B, k]: the largest of a token's candidates, where it has any."""
    token = tl.program_id(0).to(tl.int64)
    count = tl.load(counts + token)
    if count > 0:
        slot = tl.arange(0, ROOM)
        there = slot < count
        x = tl.load(entries + token * wanted + slot, mask=there, other=0.0)
        place = tl.load(places + token * wanted + slot, mask=there, other=0)
        chosen = largest(keys_of(x, there, 32), k, 32)
        at = token * k + tl.cumsum(chosen, 0) - 1
        tl.store(values + at, x, mask=chosen > 0)
        tl.store(indices + at, place.to(tl.int64), mask=chosen > 0)


@triton.jit
def unproved(counts, left, total, tokens, BLOCK: tl.constexpr):
    """left [B]: the tokens without candidates, one after the other; total [1]: how many."""
    found = tl.zeros([1], tl.int32)
    for start in range(0, tokens, BLOCK):
        token = start + tl.arange(0, BLOCK)
        one = (tl.load(counts + token, mask=token < tokens, other=1) == 0).to(tl.int32)
        tl.store(left + found + tl.cumsum(one, 0) - 1, token, mask=one > 0)
        found += tl.sum(one, 0)
    tl.store(total + tl.arange(0, 1), found)


@triton.jit
def products(
    left, total, rows, weight, bias, out, first, room, latents, width,
    PROGRAMS: tl.constexpr, TOKENS: tl.constexpr, LATENTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out [room, N]: of the tokens in `left` from `first` on, their products with all latents, in float32.

    PROGRAMS take one tile after the other, of as many as there are; those of the same latents at the same time.
    """
    count = tl.minimum(tl.load(total) - first, room)
    groups = tl.cdiv(tl.maximum(count, 0), TOKENS)
    tiles = groups * tl.cdiv(latents, LATENTS)
    for tile in range(tl.program_id(0), tiles, PROGRAMS):
        place = (tile % groups) * TOKENS + tl.arange(0, TOKENS)
        latent = (tile // groups) * LATENTS + tl.arange(0, LATENTS)
        there = place < count
        inside = latent < latents
        token = tl.load(left + first + place, mask=there, other=0).to(tl.int64)
        row_of_weight = latent.to(tl.int64) * width
        sums = tl.zeros([TOKENS, LATENTS], tl.float32)
        for start in range(0, width, COLUMNS):
            at = start + tl.arange(0, COLUMNS)
            x = tl.load(
                rows + token[:, None] * width + at[None, :], mask=there[:, None] & (at < width)[None, :], other=0.0
            )
            w = tl.load(
                weight + row_of_weight[None, :] + at[:, None],
                mask=inside[None, :] & (at < width)[:, None],
                other=0.0,
            )
            sums = tl.dot(x, w, sums, input_precision="ieee")
        sums += tl.load(bias + latent, mask=inside, other=0.0)[None, :]
        tl.store(
            out + place[:, None].to(tl.int64) * latents + latent[None, :],
            sums,
            mask=there[:, None] & inside[None, :],
        )


@triton.jit
def groups_of_left(dense, groups, total, first, latents, k, BLOCK: tl.constexpr):
    """As `groups_of`, for as many rows of `products` as there are."""
    if tl.program_id(0) + first < tl.load(total):
        groups_of(dense, groups, latents, k, 32, BLOCK)


@triton.jit
def members_of_left(
    dense, groups, left, total, values, indices, first, latents, k,
    BLOCK: tl.constexpr, SIZE: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """As `members_of`, for as many rows of `products` as there are, into the places of their tokens."""
    row = tl.program_id(0)
    if row + first < tl.load(total):
        behind = (tl.load(left + first + row) - row).to(tl.int64) * k
        members_of(dense, groups, values + behind, indices + behind, latents, k, 32, BLOCK, SIZE, ROOM)
