"""The exact top-k of a float32 product on a GPU, from candidates that a product in float16 leaves.

See `harness.sae.gpu.candidates` for the kernels. Nothing here waits for the GPU.

Shape letters: B tokens, N latents, W width, K selected latents per token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from harness.sae import gpu
from harness.sae.gpu import COLUMNS, _cdiv, _kernels, _on, _power, _room
from harness.sae.products import SETTING

LEAST = 64  # latents for each that is looked for: with fewer, candidates take as long as the product
WORK = 2**31  # multiplications of the product: with fewer, it takes no longer than these kernels' launches
CANDIDATES, FEWEST = 2, 32  # for each that is looked for, and for all of a token: there is room for so many
ROWS = 4  # that a program rounds, a warp for each
ENTRIES = 2  # candidates whose values a program computes at once, a warp for each
BLOCK = 4096  # numbers that a program has at once where one has to go through all
TILE = (32, 128, 32)  # tokens, latents and columns of a product in float32 at once


def pays(x: Tensor, latents: int, k: int) -> bool:
    """Whether this takes x [B, W] and is faster than the product, which is to be float32's own."""
    if x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type) or gpu.kernels() is None:
        return False
    settings = torch.backends.cuda.matmul
    if settings.fp32_precision == "tf32" or settings.allow_fp16_accumulation:
        return False
    return x.numel() * latents >= WORK and latents >= LEAST * k and _takes(latents, k)


def _takes(latents: int, k: int) -> bool:
    return 0 < 4 * _wanted(k) <= latents and _room(latents, _wanted(k))[2] <= gpu.ROOM


def _wanted(k: int) -> int:
    return max(CANDIDATES * k, FEWEST)


def top_k_of_product(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `harness.sae.shortlist.top_k_of_product`, in one order."""
    x = x.contiguous()
    values, indices = x.new_empty(len(x), k), x.new_empty(len(x), k, dtype=torch.int64)
    if len(x):
        with _on(x):
            rough, lengths, limits = _rough(x, weight, bias)
            counts = _near(rough, lengths, limits, x, weight, bias, values, indices)
            _rest(counts, rough, x, weight, bias, values, indices)
    return values, indices


def _rough(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The product in float16, [B, N], in memory for an even number of rows; what its error is bounded by."""
    batch, latents = len(x), len(weight)
    x_rounded, lengths = _round(x)
    weight_rounded, lengths_of_weight = _round(weight)
    limits, bias_rounded = x.new_empty(3), torch.empty_like(bias, dtype=torch.float16)
    _kernels().candidates.limits_of[(1,)](
        lengths_of_weight, bias, bias_rounded, limits, latents, min(BLOCK, _power(latents)), num_warps=8
    )
    rough = x.new_empty(batch + batch % 2, latents, dtype=torch.float16)
    with _sums_in_float32():
        torch.addmm(bias_rounded, x_rounded, weight_rounded.T, out=rough[:batch])
    return rough, lengths, limits


def _round(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [R, W] in float16, and [2, R]: how long they are, and what rounding took of them."""
    rounded, lengths = torch.empty_like(rows, dtype=torch.float16), rows.new_empty(2, len(rows))
    _kernels().candidates.round_rows[(_cdiv(len(rows), ROWS),)](
        rows, rounded, lengths, *rows.shape, ROWS, min(COLUMNS, _power(rows.shape[1])), num_warps=ROWS
    )
    return rounded, lengths


@contextmanager
def _sums_in_float32() -> Iterator[None]:
    """Within, no product in float16 is summed in parts that are rounded to float16."""
    settings = torch.backends.cuda.matmul
    with SETTING:
        before = settings.allow_fp16_reduced_precision_reduction
        settings.allow_fp16_reduced_precision_reduction = False
        try:
            yield
        finally:
            settings.allow_fp16_reduced_precision_reduction = before


def _near(
    rough: Tensor,
    lengths: Tensor,
    limits: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    values: Tensor,
    indices: Tensor,
) -> Tensor:
    """Put the k largest of the candidates in their places. Returns how many a token's are, [B]; 0: unproved."""
    (batch, width), latents, k = x.shape, len(weight), values.shape[1]
    wanted = _wanted(k)
    block, size, room = _room(latents, wanted)
    bits = gpu.BITS[rough.dtype]
    groups, places = (x.new_empty(batch, wanted, dtype=torch.int32) for _ in range(2))
    counts, errors, entries = groups.new_empty(batch), x.new_empty(batch), x.new_empty(batch, wanted)
    kernels, grid = _kernels().candidates, (batch,)
    _kernels().selection.groups_of[grid](rough, groups, latents, wanted, bits, block, num_warps=4)
    kernels.candidates_of[grid](
        rough, groups, lengths, limits, places, counts, errors, batch, latents, width, k, wanted,
        bits, block, size, room, num_warps=4 if room < 4096 else 8,
    )  # fmt: skip
    kernels.entries_of[grid](
        rough, places, counts, errors, x, weight, bias, entries, latents, width, k, wanted,
        ENTRIES, min(COLUMNS, _power(width)), num_warps=ENTRIES,
    )  # fmt: skip
    kernels.largest_entries[grid](places, counts, entries, values, indices, k, wanted, _power(wanted), num_warps=2)
    return counts


def _rest(
    counts: Tensor, rough: Tensor, x: Tensor, weight: Tensor, bias: Tensor, values: Tensor, indices: Tensor
) -> None:
    """Put the k largest of the tokens whose count is 0 in their places: from products in float32, which lie where
    the one in float16 did. There is room for those of half of the tokens at a time."""
    (batch, width), latents, k = x.shape, len(weight), values.shape[1]
    left, total = torch.empty_like(counts), counts.new_empty(1)
    kernels = _kernels().candidates
    kernels.unproved[(1,)](counts, left, total, batch, min(BLOCK, _power(batch)), num_warps=8)
    half = len(rough) // 2
    dense = rough.flatten().view(torch.float32).view(half, latents)
    groups = counts.new_empty(half, k)
    block, size, room = _room(latents, k)
    programs = 2 * torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 3
    for first in (0, half):
        kernels.products[(programs,)](
            left, total, x, weight, bias, dense, first, half, latents, width, programs, *TILE, num_warps=8
        )
        kernels.groups_of_left[(half,)](dense, groups, total, first, latents, k, block, num_warps=4)
        kernels.members_of_left[(half,)](
            dense, groups, left, total, values, indices, first, latents, k, block, size, room, num_warps=4
        )
