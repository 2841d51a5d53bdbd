"""Triton kernels: squared errors, their gradient, and squares of the target, in one pass. Needs Triton."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def squared_errors(rows, target, gradient, sums, size, scale, BLOCK: tl.constexpr):
    """BLOCK numbers for each program. gradient: scale · (rows - target). sums [2, programs]: of the squares of the
    differences, and of the target's."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    wanted = tl.load(target + at, mask=inside, other=0.0)
    left = tl.load(rows + at, mask=inside, other=0.0) - wanted
    tl.store(gradient + at, scale * left, mask=inside)
    tl.store(sums + tl.program_id(0), tl.sum(left * left, 0))
    tl.store(sums + tl.num_programs(0) + tl.program_id(0), tl.sum(wanted * wanted, 0))


@triton.jit
def multiply(numbers, factor, size, BLOCK: tl.constexpr):
    """Multiplies numbers by a factor [1] in place: nothing is read where it is 1."""
    by = tl.load(factor)
    if by != 1.0:
        for start in range(tl.program_id(0) * BLOCK, size, tl.num_programs(0) * BLOCK):
            at = start + tl.arange(0, BLOCK)
            tl.store(numbers + at, by * tl.load(numbers + at, mask=at < size, other=0.0), mask=at < size)
