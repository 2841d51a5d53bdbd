"""Triton kernels: the k largest entries of each row, exactly. Needs Triton; `harness.sae.gpu` calls it.

A row is read once. It gives the maxima of its groups (entries that lie BLOCK apart); in the k groups with the
largest maxima lie the k largest entries. Among these few the k-th largest is found by bisection, as among maxima.
What is taken has one order, also where entries are equal: the same input gives the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOWEST = tl.constexpr(-(2**31))  # below the key of every number


@triton.jit
def keys_of(x, there, BITS: tl.constexpr):
    """Numbers of BITS bits in the order of the float32 x; NaN is the largest of all, as in torch.

    LOWEST where nothing is there. Of what was bfloat16 the upper 16 bits say all, of float16 the upper 19.
    """
    bits = x.to(tl.int32, bitcast=True)
    keys = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    keys = tl.where(x != x, 0x7FFFFFFF, keys)
    if BITS < 32:
        keys = keys >> (32 - BITS)
    return tl.where(there, keys, LOWEST)


@triton.jit
def largest(keys, k, BITS: tl.constexpr):
    """Which k of keys are the largest: 0 or 1. At least k are there; of equal ones the first are taken."""
    low = -(2 ** (BITS - 1))
    high = 2 ** (BITS - 1) - 1
    for _ in range(BITS):
        half = (low | high) - ((low ^ high) >> 1)  # rounded up, without an overflow
        enough = tl.sum((keys >= half).to(tl.int32), 0) >= k
        low = tl.where(enough, half, low)
        high = tl.where(enough, high, tl.maximum(low, half - 1))
    above = keys > low
    tie = (keys == low).to(tl.int32)
    ties = k - tl.sum(above.to(tl.int32), 0)
    return (above | ((tie > 0) & (tl.cumsum(tie, 0) <= ties))).to(tl.int32)


@triton.jit
def groups_of(dense, groups, latents, k, BITS: tl.constexpr, BLOCK: tl.constexpr):
    """groups [B, k]: which of a row's BLOCK groups have the largest maxima."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    dense += row * latents
    best = tl.load(dense + lane, mask=lane < latents, other=-float("inf")).to(tl.float32)
    for start in range(BLOCK, latents, BLOCK):
        at = start + lane
        x = tl.load(dense + at, mask=at < latents, other=-float("inf")).to(tl.float32)
        best = tl.maximum(best, x, propagate_nan=tl.PropagateNan.ALL)
    chosen = largest(keys_of(best, lane < latents, BITS), k, BITS)
    tl.store(groups + row * k + tl.cumsum(chosen, 0) - 1, lane, mask=chosen > 0)


@triton.jit
def members_of(
    dense, groups, values, indices, latents, k, BITS: tl.constexpr, BLOCK: tl.constexpr, SIZE: tl.constexpr,
    ROOM: tl.constexpr,
):  # fmt: skip
    """values [B, k] and indices [B, k]: the largest of all entries, up to SIZE each, of `groups` [B, k]."""
    row = tl.program_id(0).to(tl.int64)
    dense += row * latents
    slot = tl.arange(0, ROOM)
    group = slot // SIZE
    place = tl.load(groups + row * k + group, mask=group < k, other=0) + (slot % SIZE) * BLOCK
    there = (group < k) & (place < latents)
    x = tl.load(dense + place, mask=there, other=0.0)
    chosen = largest(keys_of(x.to(tl.float32), there, BITS), k, BITS)
    at = row * k + tl.cumsum(chosen, 0) - 1
    tl.store(values + at, x, mask=chosen > 0)
    tl.store(indices + at, place.to(tl.int64), mask=chosen > 0)
