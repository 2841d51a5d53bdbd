"""Muon on a GPU with all that surrounds it: as `FusedAdam`, which takes the parameters that are no matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from harness.optimizers.gram import orthogonalise_together
from harness.optimizers.muon import MOMENTUM, RMS, Muon
from harness.sae.gpu import muon_passes
from harness.training.fused_adam import BLOCK, FusedAdam, Taken
from harness.training.precision import float32_products


class FusedMuon(FusedAdam):
    """The step of Muon, and of Adam for the rest."""

    RULES: ClassVar[tuple[type, ...]] = (Muon, *FusedAdam.RULES)

    def _move(self, taken: Sequence[Taken], factor: Tensor, along: Mapping[int, Tensor]) -> None:
        matrices = [of for of in taken if type(of[0]) is Muon]
        super()._move([of for of in taken if type(of[0]) is not Muon], factor, along)
        directions = []
        for optimizer, _, p in matrices:
            state = optimizer.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            assert p.grad is not None
            directions.append(
                muon_passes.direction(p.grad, p, along.get(id(p)), state["momentum"], factor, 1 - MOMENTUM, BLOCK)
            )
        with float32_products("tf32", factor.device):
            updates = orthogonalise_together(*zip(*directions, strict=True))
        for (_, _, p), update in zip(matrices, updates, strict=True):
            size = RMS * max(p.shape) ** 0.5
            muon_passes.step(p, update, self._rates[:1], size, BLOCK, unit=id(p) in along)
