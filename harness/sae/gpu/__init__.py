"""Kernels in Triton for what a step needs besides dense products, on GPUs.

They are called by the same functions as those of `harness.sae.native`. Where Triton is missing the plain-PyTorch
versions beside their callers do the same; `HARNESS_NATIVE=0` leaves them out. Triton compiles them when they are
first called, and keeps them under `~/.triton/cache`.

Shape letters: B tokens, N latents, D width, K active latents per token, A active entries.
"""

from __future__ import annotations

import os
import subprocess
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

DEVICES = {"cuda"}  # tests add "cpu", where Triton's interpreter takes the kernels
COLUMNS = 1024  # of a row, at most, that a program has in registers at once
ROOM = 8192  # entries that a program can have in registers at most
PART = (64, 1024)  # rows and columns of a dense [B, N] that a program goes through


class Kernels(NamedTuple):
    """The modules that import Triton."""

    gathers: ModuleType
    selection: ModuleType
    candidates: ModuleType
    jumprelu: ModuleType
    adam: ModuleType
    errors: ModuleType


@cache
def kernels() -> Kernels | None:
    """None where Triton is missing, cannot compile, or is not wanted."""
    if os.environ.get("HARNESS_NATIVE") == "0":
        return None
    try:
        import harness.sae.gpu.adam as adam
        import harness.sae.gpu.candidates as candidates
        import harness.sae.gpu.errors as errors
        import harness.sae.gpu.gathers as gathers
        import harness.sae.gpu.jumprelu as jumprelu
        import harness.sae.gpu.selection as selection
    except ImportError:
        return None
    return Kernels(gathers, selection, candidates, jumprelu, adam, errors) if _compiles() else None


def _compiles() -> bool:
    """Whether Triton can make what launches kernels: with a C compiler, which many containers lack."""
    if not torch.cuda.is_available():
        return True
    from triton.runtime import driver

    try:
        driver.active.get_current_target()
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        if isinstance(error, RuntimeError) and "C compiler" not in str(error):
            raise
        warnings.warn(f"steps on the GPU do without our kernels: Triton cannot compile: {error}", stacklevel=2)
        return False
    return True


def holds(tensor: Tensor) -> bool:
    """Whether the tensor lies on a GPU: then reading one of its numbers, or counting some, waits for the GPU."""
    return tensor.device.type in DEVICES


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels are there and take these: float32 or bfloat16, contiguous, on a GPU."""
    fit = all(holds(t) and t.is_contiguous() and t.dtype in _FLOATS for t in tensors)
    return fit and kernels() is not None


_FLOATS = (torch.float32, torch.bfloat16)
# How many upper bits of a float32 hold any number of these types exactly
BITS = {torch.float32: 32, torch.float16: 19, torch.bfloat16: 16}


def takes_top_k(dense: Tensor, k: int) -> bool:
    """Whether `top_k` takes this dense [B, N]: it is for k of at most a quarter of N."""
    return usable(dense) and 0 < 4 * k <= dense.shape[1] and _room(dense.shape[1], k)[2] <= ROOM


def top_k(dense: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `harness.sae.topk.top_k`; the same input gives the same order, also of equal entries."""
    batch, latents = dense.shape
    block, size, room = _room(latents, k)
    groups = dense.new_empty(batch, k, dtype=torch.int32)
    values, indices = dense.new_empty(batch, k), dense.new_empty(batch, k, dtype=torch.int64)
    bits = BITS[dense.dtype]
    if batch:
        selection = _kernels().selection
        with _on(dense):
            selection.groups_of[(batch,)](dense, groups, latents, k, bits, block, num_warps=4)
            selection.members_of[(batch,)](
                dense, groups, values, indices, latents, k, bits, block, size, room, num_warps=4
            )
    return values, indices


def _room(latents: int, k: int) -> tuple[int, int, int]:
    """Groups of a row, entries of each, and entries of k of them: fewer than groups, since they are gathered."""
    block = min(4096, max(2 * _power(k), _power(round(1.2 * (latents * k) ** 0.5))))
    block = min(block, _power(latents))
    size = _power(_cdiv(latents, block)) if latents > block else 1
    return block, size, _power(k) * size


def project(gradient: Tensor, weight: Tensor) -> None:
    """Take from each row of gradient [N, D] its part along the row of weight [N, D], which has unit norm."""
    width = weight.shape[1]
    block = min(4 * COLUMNS, _power(width))
    if len(weight):
        with _on(weight):
            _kernels().gathers.project[(len(weight),)](gradient, weight, width, block, num_warps=4)


def normalise(weight: Tensor) -> None:
    """Bring each row of weight [N, D] to unit norm."""
    width = weight.shape[1]
    block = min(4 * COLUMNS, _power(width))
    if len(weight):
        with _on(weight):
            _kernels().gathers.normalise[(len(weight),)](weight, width, block, num_warps=4)


def jump(z: Tensor, threshold: Tensor) -> Tensor:
    """z [B, N] where it is above the threshold [N] of its latent, else 0."""
    values = torch.empty_like(z)
    if z.numel():
        with _on(z):
            _kernels().jumprelu.forward[_parts(z)](z, threshold, values, *z.shape, *PART, num_warps=4)
    return values


def jump_backward(z: Tensor, gradient: Tensor, threshold: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
    """The gradient [B, N] where z [B, N] is above its threshold [N]; the sum of the gradients near each, [N]."""
    out = torch.empty_like(gradient)
    sums = threshold.new_empty(_parts(z)[1], z.shape[1])
    if z.numel():
        with _on(z):
            _kernels().jumprelu.backward[_parts(z)](
                z, gradient, threshold, out, sums, *z.shape, bandwidth / 2, *PART, num_warps=4
            )
    return out, sums.sum(0)


def jump_counts(z: Tensor, threshold: Tensor, bandwidth: float = 0.0) -> tuple[Tensor, Tensor]:
    """Of how many tokens z [B, N] is above each threshold [N], and near it: both [N], float32."""
    counts = threshold.new_empty(2, _parts(z)[1], z.shape[1])
    if z.numel():
        with _on(z):
            _kernels().jumprelu.counts[_parts(z)](
                z, threshold, *counts, *z.shape, bandwidth / 2, *PART, num_warps=4
            )
    above, near = counts.sum(1)
    return above, near


def positive(z: Tensor) -> tuple[Tensor, Tensor]:
    """Sums and numbers of what is above 0 in each column of z [B, N]: both [N], float32."""
    parts = z.new_empty(2, _parts(z)[1], z.shape[1], dtype=torch.float32)
    if z.numel():
        with _on(z):
            _kernels().jumprelu.positive[_parts(z)](z, *parts, *z.shape, *PART, num_warps=4)
    sums, counts = parts.sum(1)
    return sums, counts


def _parts(dense: Tensor) -> tuple[int, int]:
    return _cdiv(dense.shape[1], PART[1]), _cdiv(dense.shape[0], PART[0])


def squares(gradient: Tensor, sums: Tensor, block: int) -> None:
    """Put into `sums` the sum of squares of each `block` numbers in a row."""
    with _on(gradient):
        _kernels().adam.squares[(len(sums),)](gradient, sums, gradient.numel(), block, num_warps=4)


def squares_across(gradient: Tensor, weight: Tensor, along: Tensor, sums: Tensor) -> None:
    """Put into `along` [N] each row's part of gradient [N, D] along that of weight [N, D], which has unit norm;
    into `sums` [N] the sum of the squares of the rest."""
    width = weight.shape[1]
    with _on(weight):
        _kernels().adam.squares_across[(len(weight),)](
            gradient, weight, along, sums, width, _power(width), num_warps=_warps(_power(width))
        )


def clip_factor(sums: Tensor, limit: float) -> Tensor:
    """The factor [1] that brings a gradient with these sums of squares down to a norm of `limit`; else 1."""
    factor = sums.new_empty(1)
    with _on(sums):
        _kernels().adam.clip_factor[(1,)](sums, factor, len(sums), limit, 4096, num_warps=8)
    return factor


def adam_step(
    weight: Tensor,
    gradient: Tensor,
    along: Tensor | None,
    moments: tuple[Tensor, Tensor],
    rates: Tensor,
    factor: Tensor,
    numbers: tuple[float, ...],
    block: int,
) -> None:
    """A step of Adam: see `harness.sae.gpu.adam`. along: of a decoder whose rows are held at unit norm.

    Where the weight has a copy of itself in bfloat16, `rounded`, this moves with it.
    """
    kept: Tensor | None = getattr(weight, "rounded", None)
    copy = (gradient, False) if kept is None else (kept, True)
    adam = _kernels().adam
    with _on(weight):
        if along is None:
            adam.step[(_cdiv(weight.numel(), block),)](
                weight, gradient, copy[0], *moments, rates, factor, weight.numel(), *numbers, copy[1], block,
                num_warps=8,
            )  # fmt: skip
        else:
            power = _power(weight.shape[1])
            adam.step_across[(len(weight),)](
                weight, gradient, copy[0], along, *moments, rates, factor,
                weight.shape[1], *numbers, copy[1], power, num_warps=_warps(power),
            )  # fmt: skip


def _kernels() -> Kernels:
    found = kernels()
    assert found is not None
    return found


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _power(number: int) -> int:
    """The smallest power of two that is at least the number, and at least 2."""
    return 1 << max(1, (number - 1).bit_length())


def _cdiv(number: int, by: int) -> int:
    return -(-number // by)


def _warps(block: int) -> int:
    """Warps (of 32 threads) for a program that has so many columns in registers."""
    return 1 if block <= 256 else 2 if block <= 512 else 4 if block <= 2048 else 8 if block <= 4096 else 16
