"""Optimizers by name. Adding one is a function here that says which roles get which rule, and its entry below."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from harness.muon import Muon
from harness.sae.roles import MATRICES, Role, parameter_roles

Parameters = list[tuple[nn.Parameter, Role]]


def adam(parameters: Parameters, lr: float) -> list[Optimizer]:
    """Adam for everything."""
    return [torch.optim.Adam([p for p, _ in parameters], lr=lr, fused=True)]


def muon(parameters: Parameters, lr: float) -> list[Optimizer]:
    """Muon for matrices, Adam for biases and gains."""
    matrices = [p for p, role in parameters if role in MATRICES]
    others = [p for p, role in parameters if role not in MATRICES]
    return [Muon(matrices, lr=lr), torch.optim.Adam(others, lr=lr, fused=True)]


OPTIMIZERS: dict[str, Callable[[Parameters, float], list[Optimizer]]] = {"adam": adam, "muon": muon}


def build_optimizers(name: str, model: nn.Module, lr: float) -> list[Optimizer]:
    """The optimizers that together update every parameter of `model` once a step."""
    roles = parameter_roles(model)
    return OPTIMIZERS[name]([(p, roles[n]) for n, p in model.named_parameters()], lr)


def set_learning_rate(optimizers: list[Optimizer], lr: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


def learning_rate(step: int, steps: int, peak: float, warmup: float, decay: float) -> float:
    """Trapezoid: up over the first `warmup` share of the steps, level, down over the last `decay` share.

    step: 0-based. The first step already moves (its rate is not 0), and so does the last one.
    """
    rise = (step + 1) / max(1.0, warmup * steps)
    fall = (steps - step) / max(1.0, decay * steps)
    return peak * min(1.0, rise, fall)
