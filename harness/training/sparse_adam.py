"""Adam that leaves alone what had no gradient: silent latents keep their weights and moments.

The arithmetic is that of `torch.optim.SparseAdam`, which asks for sparse tensors as gradients; those of training
are dense and zero in most places. Nothing here waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BETA1, BETA2 = 0.9, 0.999
EPSILON = 1e-8


class SparseAdam(torch.optim.Optimizer):
    """Adam on the rows of each parameter whose gradient is not zero throughout; of a vector, on such entries.

    Rows of encoder and decoder are latents, those of an added dense layer its output units. In other rows nothing
    changes, neither weights nor moments. The correction of the moments' bias goes by the number of all steps, as
    in torch.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Apply one update to every parameter with a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, group["lr"])

    def _move(self, p: Tensor, gradient: Tensor, lr: float) -> None:
        if not (state := self.state[p]):
            state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        state["step"] += 1
        touched = gradient.reshape(len(gradient), -1).any(1).to(p.dtype)
        touched = touched.view(-1, *(1,) * (p.ndim - 1))  # [rows, 1]: 1 where there is a gradient, 0 elsewhere
        state["exp_avg"].lerp_(gradient, (1 - BETA1) * touched)
        state["exp_avg_sq"].lerp_(gradient.square(), (1 - BETA2) * touched)
        correction1, correction2 = 1 - BETA1 ** state["step"], 1 - BETA2 ** state["step"]
        divisor = state["exp_avg_sq"].sqrt().add_(EPSILON)
        p.addcdiv_(touched * state["exp_avg"], divisor, value=-lr * correction2**0.5 / correction1)
