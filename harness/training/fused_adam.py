"""Adam on a GPU with all that surrounds it: projection, clipping, unit norm. Each number is read and written once.

The optimizer is torch's own and keeps its state; the arithmetic of its step alone is done here, the same to
rounding. Needs Triton (`harness.sae.gpu`); elsewhere `harness.training.cell` takes the parts one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from harness.sae import gpu
from harness.sae.row_norms import RowNorms
from harness.training.optimizers import Optimizer
from harness.training.step_numbers import StepNumbers

BLOCK = 2048  # numbers that a program takes
WIDEST = 8192  # decoder rows that a program can hold
Taken = tuple[Optimizer, dict[str, Any], nn.Parameter]  # a parameter of a group of an optimizer
RATES = 3  # numbers of a step that an update goes by


class FusedAdam:
    """The step of these optimizers, which `fits`.

    unit: decoders whose rows are held at unit norm. limit: largest global norm of the gradient; None: any.
    read: those that are read in bfloat16; they get a copy of themselves, `rounded`, which moves with them.
    """

    RULES: ClassVar[tuple[type, ...]] = (torch.optim.Adam, torch.optim.AdamW)

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        unit: Collection[nn.Parameter],
        limit: float | None,
        read: Sequence[nn.Parameter] = (),
    ) -> None:
        self._optimizers = optimizers
        self._unit = {id(decoder) for decoder in unit}
        self._limit = limit
        device = optimizers[0].param_groups[0]["params"][0].device
        self._rates = torch.zeros(RATES, device=device)  # of the step, as `rates_of` says
        self._read = dict.fromkeys(read, -1)  # -> its version when its copy was made
        for p in read:
            p.rounded = torch.empty_like(p, dtype=torch.bfloat16, requires_grad=False)  # type: ignore[attr-defined]
        for p in parameters_of(optimizers):
            if p.dim() == 2:
                p.row_norms = RowNorms(p, across=id(p) in self._unit)  # type: ignore[attr-defined]

    @classmethod
    def fits(cls, optimizers: Sequence[Optimizer], unit: Collection[nn.Parameter]) -> bool:
        """Whether these are such optimizers, of float32, on a GPU that has the kernels."""
        known = all(type(optimizer) in cls.RULES for optimizer in optimizers)
        parameters = parameters_of(optimizers)
        narrow = all(decoder.shape[1] <= WIDEST for decoder in unit)
        return known and narrow and all(p.dtype == torch.float32 and gpu.usable(p) for p in parameters)

    def rates_of(self, lr: float, step: int) -> tuple[float, float, float]:
        """What an update goes by. step: from 1 on."""
        beta1, beta2 = self._optimizers[-1].param_groups[0]["betas"]
        return lr, lr / (1 - beta1**step), (1 - beta2**step) ** -0.5

    def round_again(self) -> None:
        """Before each step, also before that of a graph: round weights again that another has written into."""
        for p, version in self._read.items():
            if p._version != version:  # a checkpoint, or resampling
                p.rounded.copy_(p.detach())  # type: ignore[attr-defined]
                self._read[p] = p._version

    @torch.no_grad()
    def update(self, of_step: StepNumbers) -> None:
        """Move all parameters that have a gradient, and forget it. of_step: has the rates."""
        of_step.take_rates(self._rates)
        taken = [
            (optimizer, group, p)
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        factor, along = self._reduce_gradients([p for _, _, p in taken])
        self._move(taken, factor, along)
        for _, _, p in taken:
            p.grad = None

    def _move(self, taken: Sequence[Taken], factor: Tensor, along: Mapping[int, Tensor]) -> None:
        """The step of these, given what `_reduce_gradients` found."""
        states = [self._state(optimizer, p) for optimizer, _, p in taken]
        torch._foreach_add_([state["step"] for state in states], 1)
        for (_, group, p), state in zip(taken, states, strict=True):
            beta1, beta2 = group["betas"]
            numbers = (group["weight_decay"], beta1, 1 - beta1, beta2, 1 - beta2, group["eps"])
            moments = (state["exp_avg"], state["exp_avg_sq"])
            assert p.grad is not None
            gpu.adam_step(p, p.grad, along.get(id(p)), moments, self._rates, factor, numbers, BLOCK)

    def _reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> tuple[Tensor, dict[int, Tensor]]:
        """What gradients are to be multiplied by, [1]; and their parts along the rows of decoders, each [N]."""
        squares: list[Tensor] = []
        along: dict[int, Tensor] = {}
        for p in parameters:
            p.grad = cast(Tensor, p.grad).contiguous()
            norms: RowNorms | None = getattr(p, "row_norms", None)
            if norms is None or not norms.are_of(p.grad):
                norms = None
            if id(p) in self._unit:
                if norms is None:
                    norms = RowNorms(p, across=True)
                    gpu.squares_across(p.grad, p, norms.along, norms.squares)
                along[id(p)] = norms.along
            elif norms is None and self._limit:
                squares.append(p.new_empty(-(-p.numel() // BLOCK)))
                gpu.squares(p.grad, squares[-1], BLOCK)
            if norms is not None:
                squares.append(norms.squares)
        if not self._limit:
            return torch.ones_like(self._rates[:1]), along
        return gpu.clip_factor(torch.cat(squares), self._limit), along

    @staticmethod
    def _state(optimizer: Optimizer, p: nn.Parameter) -> dict[str, Any]:
        """As torch has it, so that a checkpoint of either can be gone on from."""
        state = optimizer.state[p]
        if not state:
            state["step"] = torch.zeros((), device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        return cast(dict[str, Any], state)


def parameters_of(optimizers: Sequence[Optimizer]) -> list[nn.Parameter]:
    return [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
