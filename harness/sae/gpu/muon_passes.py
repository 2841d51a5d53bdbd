"""Launches the kernels of `harness.sae.gpu.muon`.

Shape letters: N rows of a matrix, D its width.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from harness.sae.gpu import _cdiv, _on, _power, _warps


def direction(
    gradient: Tensor,
    weight: Tensor,
    along: Tensor | None,
    momentum: Tensor,
    factor: Tensor,
    rest: float,
    block: int,
) -> tuple[Tensor, Tensor]:
    """Nesterov's direction [N, D] in bfloat16, and 1 / its norm; the momentum [N, D] moves on.

    along: of a decoder whose rows are held at unit norm, as `gpu.squares_across` gives it. factor: of gradients.
    rest: the gradient's part in the momentum. block: numbers for each program where there is no `along`.
    """
    out = torch.empty_like(gradient, dtype=torch.bfloat16)
    muon = _kernels()
    with _on(weight):
        if along is None:
            sums = factor.new_empty(_cdiv(weight.numel(), block))
            muon.direct[(len(sums),)](
                gradient, momentum, out, factor, sums, weight.numel(), rest, block, num_warps=8
            )
        else:
            width, power = weight.shape[1], _power(weight.shape[1])
            sums = torch.empty_like(along)
            muon.direct_across[(len(weight),)](
                gradient, weight, along, momentum, out, factor, sums, width, rest, power, num_warps=_warps(power)
            )  # fmt: skip
    return out, 1 / (sums.sum().sqrt() + 1e-7)


def step(weight: Tensor, update: Tensor, rate: Tensor, scale: float, block: int, *, unit: bool) -> None:
    """Take from weight [N, D] its update [N, D] times rate [1] and scale; unit: bring its rows to unit norm.

    Where the weight has a copy of itself in bfloat16, `rounded`, this moves with it.
    """
    kept: Tensor | None = getattr(weight, "rounded", None)
    copy = (update, False) if kept is None else (kept, True)
    muon = _kernels()
    with _on(weight):
        if unit:
            width, power = weight.shape[1], _power(weight.shape[1])
            muon.step_to_unit_norm[(len(weight),)](
                weight, update, copy[0], rate, width, scale, copy[1], power, num_warps=_warps(power)
            )
        else:
            muon.step[(_cdiv(weight.numel(), block),)](
                weight, update, copy[0], rate, weight.numel(), scale, copy[1], block, num_warps=8
            )


def _kernels() -> ModuleType:
    import harness.sae.gpu.muon as muon

    return muon
