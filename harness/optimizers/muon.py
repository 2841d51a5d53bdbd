"""Muon: momentum, orthogonalised. Jordan et al. 2024, kellerjordan.github.io/posts/muon.

torch.optim.Muon runs the orthogonalisation in bfloat16 whatever the device; on a CPU without bfloat16 units that
takes 35 times as long as in float32 (docs/log.md, 2026-11-22), which is why this one exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from the source above
ITERATIONS = 5
MOMENTUM = 0.95
RMS = 0.2  # of an Adam step's entries: Liu et al. 2025 (arXiv 2502.16982), section 2.2


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, roughly: singular values of [R, C] go to about 0.7 ... 1.2."""
    a, b, c = COEFFICIENTS
    x = matrix if matrix.device.type == "cpu" else matrix.bfloat16()
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (torch.linalg.vector_norm(x) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for matrices [R, C]; others raise ValueError.

    The update is scaled by 0.2 sqrt(max(R, C)), so that its entries are as large as Adam's and one learning
    rate serves both (Liu et al. 2025, section 2.2).
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})
        if any(p.ndim != 2 for group in self.param_groups for p in group["params"]):
            raise ValueError("Muon takes matrices only")

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Apply one update to every parameter with a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    if not (state := self.state[p]):
                        state["momentum"] = torch.zeros_like(p)
                    momentum = state["momentum"]
                    momentum.lerp_(p.grad, 1 - MOMENTUM)
                    update = orthogonalise(p.grad.lerp(momentum, MOMENTUM))
                    p.add_(update, alpha=-group["lr"] * RMS * max(p.shape) ** 0.5)
