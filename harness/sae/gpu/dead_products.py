"""Launches the kernels of `harness.sae.gpu.dead`: products over the dead latents alone, without knowing how many.

Shape letters: B tokens, N latents, W width of rows. Codes of the dead are the first columns of a [B, S], S being N
rounded up.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.sae.gpu import _cdiv, _on, usable

LISTED = 8192  # latents that are looked through at once
PLACES = 2048  # of the dead, of a token, that a program has in registers: 16 numbers for each thread
TOTALS = 128  # sums for each program
SQUARED = 16, 256  # rows and columns of errors for each program


class Tile(NamedTuple):
    """Of a product, for a program: its rows and columns, and how deep its operands are at a time."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int  # operands that are on their way at once


# With 128 by 128 each number that is read from L2 has part in 128 products, which a multiprocessor takes about as
# long for as for reading it (8 TFLOP/s, 45 GB/s of L2 each: 5 bytes for 1,024 FLOP). The sums are 128 registers of
# each of 128 threads, and three stages of operands 96 KiB, so that two programs fit on a multiprocessor, and one
# computes while the other begins or ends. `decoded` spends two stages more on learning which rows it is to read.
# In float32 operands are twice as long, and taken apart in registers, for three products of tf32.
DECODED = {torch.bfloat16: Tile(128, 128, 64, 4, 5), torch.float32: Tile(64, 128, 32, 4, 5)}
CODE_GRADIENT = {torch.bfloat16: Tile(128, 128, 64, 4, 3), torch.float32: Tile(64, 128, 32, 4, 3)}
ADDED = {torch.bfloat16: Tile(128, 128, 64, 4, 3), torch.float32: Tile(64, 128, 32, 4, 3)}


class Dead(NamedTuple):
    """Which latents are dead."""

    columns: Tensor  # [N], int32: they in ascending order; what is behind them is anything
    number: Tensor  # of them: [1], int32


def listed(dead: Tensor) -> Dead:
    """Those for which dead [N], bool, is true."""
    columns = torch.empty(len(dead), dtype=torch.int32, device=dead.device)
    count = columns.new_empty(1)
    with _on(dead):
        _kernels().listed[(1,)](
            dead.contiguous().view(torch.uint8), columns, count, len(dead), LISTED, num_warps=16
        )
    return Dead(columns, count)


def strongest(dense: Tensor, dead: Dead, k: int) -> Tensor:
    """Codes of the dead: the k largest of their entries of a row of dense [B, N] if above 0, all others as 0."""
    tokens, latents = dense.shape
    codes = dense.new_empty(tokens, _cdiv(latents, 16) * 16)
    bits = 16 if dense.dtype == torch.bfloat16 else 32
    if tokens:
        with _on(dense):
            _kernels().strongest[(tokens,)](
                dense, *dead, codes, latents, codes.shape[1], k, bits, PLACES, num_warps=4
            )
    return codes


def decoded(codes: Tensor, weight: Tensor, dead: Dead, precision: str) -> Tensor:
    """Codes of the dead times their rows of weight [N, W]: [B, W], float32."""
    (tokens, stride), width = codes.shape, weight.shape[1]
    out = weight.new_empty(tokens, width, dtype=torch.float32)
    tile = DECODED[codes.dtype]
    if tokens:
        with _on(codes):
            _kernels().decoded[(_cdiv(tokens, tile.rows) * _cdiv(width, tile.columns),)](
                codes, weight, *dead, out, tokens, stride, width, precision, **_sizes(tile)
            )
    return out


def code_gradient(
    rows: Tensor, weight: Tensor, codes: Tensor, dead: Dead, precision: str
) -> tuple[Tensor, Tensor]:
    """The gradient of codes of the dead, given that of what they decode to, rows [B, W]; its sums by latent."""
    (tokens, stride), (latents, width) = codes.shape, weight.shape
    tile = CODE_GRADIENT[codes.dtype]
    parts = _cdiv(tokens, tile.rows)
    out, totals = torch.empty_like(codes), torch.zeros(latents, device=codes.device)
    sums = totals.new_empty(parts, stride)
    if tokens:
        with _on(codes):
            _kernels().code_gradient[(parts * _cdiv(latents, tile.columns),)](
                rows, weight, *dead, codes, out, sums, tokens, stride, width, precision, **_sizes(tile)
            )
            _kernels().put_totals[(_cdiv(latents, TOTALS),)](
                sums, *dead, totals, parts, stride, TOTALS, num_warps=4
            )
    return out, totals


class Product(NamedTuple):
    """What is to be added to a gradient [N, W] at the dead: codes, transposed, times rows [B, W]."""

    codes: Tensor
    rows: Tensor
    gradient: Tensor


def add_rows(one: Product, two: Product, dead: Dead, precision: str) -> None:
    """Add both products to their gradients in one launch: one alone has too few programs for a whole GPU."""
    tokens, stride = one.codes.shape
    tile = ADDED[one.codes.dtype]
    widths = one.rows.shape[1], two.rows.shape[1]
    programs = _cdiv(len(one.gradient), tile.rows) * _cdiv(max(widths), tile.columns)
    if tokens:
        with _on(one.codes):
            _kernels().add_rows[(programs, 2)](
                *one, widths[0], *two, widths[1], *dead, tokens, stride, precision, **_sizes(tile)
            )


def squares(target: Tensor, reconstruction: Tensor, answer: Tensor, dead: Dead) -> tuple[Tensor, Tensor, Tensor]:
    """The mean square of answer - error, the mean square of the error, and the mean error [D] over tokens.

    answer, target, reconstruction [B, D]; error = target - reconstruction.
    """
    tokens, width = target.shape
    rows, columns = SQUARED
    grid = _cdiv(width, columns), _cdiv(tokens, rows)
    sums = target.new_empty(3, grid[1], width)
    if tokens:
        with _on(target):
            _kernels().squares[grid](
                target, reconstruction, answer, dead.number, sums, tokens, width, rows, columns, num_warps=4
            )
    errors, of_error, of_missed = sums.sum(1) / tokens
    return of_missed.mean(), of_error.mean(), errors


def squares_gradient(target: Tensor, reconstruction: Tensor, answer: Tensor, dead: Dead, factor: Tensor) -> Tensor:
    """The gradient [B, D] of the first of `squares` for its answer, times a factor; zeros if none is dead."""
    gradient = torch.empty_like(answer)
    if answer.numel():
        with _on(answer):
            _kernels().squares_gradient[(_cdiv(answer.numel(), PLACES),)](
                target, reconstruction, answer, dead.number, factor * (2 / answer.numel()), gradient,
                answer.numel(), PLACES, num_warps=8,
            )  # fmt: skip
    return gradient


def takes(dense: Tensor, *others: Tensor) -> bool:
    """Whether the kernels take a dense [B, N] and these: float32, contiguous, on a GPU."""
    return usable(dense, *others) and all(t.dtype == torch.float32 for t in others)


def precision() -> str:
    """How float32 operands are multiplied: in tf32 where torch does that, otherwise exactly to about 2^-21.

    Three products of tf32 take half the time of the GPU's float32 units at the most. AMD's GPUs, for which Triton
    has neither, multiply float32.
    """
    if torch.version.hip:
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


def _sizes(tile: Tile) -> dict[str, Any]:
    return {
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "DEPTH": tile.depth,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def _kernels() -> ModuleType:
    import harness.sae.gpu.dead as dead

    return dead
