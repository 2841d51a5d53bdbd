"""Adam on a GPU with all that surrounds it: projection, clipping, unit norm. Each number is read and written once.

The optimizer is torch's own and keeps its state; the arithmetic of its step alone is done here, the same to
rounding. Needs Triton (`harness.sae.gpu`); elsewhere `harness.training.cell` takes the parts one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.sae import gpu
from harness.training.optimizers import Optimizer

BLOCK = 2048  # numbers that a program takes
WIDEST = 8192  # decoder rows that a program can hold


class FusedAdam:
    """The step of these optimizers, which `fits`.

    unit: decoders whose rows are held at unit norm. limit: largest global norm of the gradient; None: any.
    read: those that are read in bfloat16; they get a copy of themselves, `rounded`, which moves with them.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        unit: Collection[nn.Parameter],
        limit: float | None,
        read: Sequence[nn.Parameter] = (),
    ) -> None:
        self._optimizers = cast(Sequence[torch.optim.Adam], optimizers)
        self._unit = {id(decoder) for decoder in unit}
        self._limit = limit
        device = self._optimizers[0].param_groups[0]["params"][0].device
        self._rates = torch.zeros(3, device=device)
        self._read = dict.fromkeys(read, -1)  # -> its version when its copy was made
        for p in read:
            p.rounded = torch.empty_like(p, dtype=torch.bfloat16, requires_grad=False)  # type: ignore[attr-defined]

    @staticmethod
    def fits(optimizers: Sequence[Optimizer], unit: Collection[nn.Parameter]) -> bool:
        """Whether these are Adam or AdamW, in float32, on a GPU that has the kernels."""
        adam = all(type(optimizer) in (torch.optim.Adam, torch.optim.AdamW) for optimizer in optimizers)
        parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        narrow = all(decoder.shape[1] <= WIDEST for decoder in unit)
        return adam and narrow and all(p.dtype == torch.float32 and gpu.usable(p) for p in parameters)

    def schedule(self, lr: float, step: int) -> None:
        """What the next update goes by, to be said before it, also before that of a graph. step: from 1 on."""
        beta1, beta2 = self._optimizers[0].param_groups[0]["betas"]
        for place, rate in enumerate((lr, lr / (1 - beta1**step), (1 - beta2**step) ** -0.5)):
            self._rates[place].fill_(rate)
        for p, version in self._read.items():
            if p._version != version:  # something else has written into it: a checkpoint, or resampling
                p.rounded.copy_(p.detach())  # type: ignore[attr-defined]
                self._read[p] = p._version

    @torch.no_grad()
    def update(self) -> None:
        """Move all parameters that have a gradient, and forget it."""
        taken = [
            (group, p, self._state(optimizer, p))
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        factor, along = self._reduce_gradients([p for _, p, _ in taken])
        torch._foreach_add_([state["step"] for _, _, state in taken], 1)
        for group, p, state in taken:
            beta1, beta2 = group["betas"]
            numbers = (group["weight_decay"], beta1, 1 - beta1, beta2, 1 - beta2, group["eps"])
            moments = (state["exp_avg"], state["exp_avg_sq"])
            gpu.adam_step(p, p.grad, along.get(id(p)), moments, self._rates, factor, numbers, BLOCK)
            p.grad = None

    def _reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> tuple[Tensor, dict[int, Tensor]]:
        """What gradients are to be multiplied by, [1]; and their parts along the rows of decoders, each [N]."""
        counts = [len(p) if id(p) in self._unit else -(-p.numel() // BLOCK) for p in parameters]
        sums = self._rates.new_empty(sum(counts))
        along: dict[int, Tensor] = {}
        for p, here in zip(parameters, torch.split(sums, counts), strict=True):
            p.grad = cast(Tensor, p.grad).contiguous()
            if id(p) in self._unit:
                along[id(p)] = torch.empty_like(here)
                gpu.squares_across(p.grad, p, along[id(p)], here)
            elif self._limit:
                gpu.squares(p.grad, here, BLOCK)
        return gpu.clip_factor(sums, self._limit) if self._limit else torch.ones_like(sums[:1]), along

    @staticmethod
    def _state(optimizer: torch.optim.Adam, p: nn.Parameter) -> dict[str, Any]:
        """As torch has it, so that a checkpoint of either can be gone on from."""
        state = optimizer.state[p]
        if not state:
            state["step"] = torch.zeros((), device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        return cast(dict[str, Any], state)
