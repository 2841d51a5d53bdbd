"""Optimizers: which roles get which rule. `harness.study.catalogue.OPTIMIZERS` names them.

`schedulefree` and `pytorch_optimizer` are imported by the rules that need them: the others run with torch alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from harness.optimizers.muon import Muon
from harness.sae.roles import MATRICES, Role, parameter_roles
from harness.study.catalogue import OPTIMIZERS
from harness.study.catalogue.optimizers import SOAP_DIMENSION
from harness.study.recipe import Recipe
from harness.training.sparse_adam import SparseAdam

Parameters = list[tuple[nn.Parameter, Role]]


class Optimizer(Protocol):
    """What training needs of an optimizer; torch's have it, and so do their wrappers."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...
    @property
    def state(self) -> Any: ...
    def step(self) -> Any: ...
    def zero_grad(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def adam(parameters: Parameters, recipe: Recipe) -> list[Optimizer]:
    """Adam for everything."""
    return [torch.optim.Adam([p for p, _ in parameters], lr=recipe.peak_lr, fused=True)]


def adamw(parameters: Parameters, recipe: Recipe) -> list[Optimizer]:
    """Adam with decoupled weight decay on matrices; biases, gains and thresholds do not decay."""
    matrices, others = _by_role(parameters)
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=recipe.peak_lr, fused=True)]


def sparse_adam(parameters: Parameters, recipe: Recipe) -> list[Optimizer]:
    """Adam for everything that has a gradient in the batch; rows of other latents stay, moments and all."""
    return [SparseAdam([p for p, _ in parameters], lr=recipe.peak_lr)]


def muon(parameters: Parameters, recipe: Recipe) -> list[Optimizer]:
    """Muon for matrices, Adam for the rest."""
    matrices, others = _by_role(parameters)
    return [Muon(matrices, lr=recipe.peak_lr), torch.optim.Adam(others, lr=recipe.peak_lr, fused=True)]


def soap(parameters: Parameters, recipe: Recipe) -> list[Optimizer]:
    """SOAP (Vyas et al. 2024, arXiv 2409.11321) for matrices, Adam for the rest."""
    from pytorch_optimizer import SOAP

    matrices, others = _by_role(parameters)
    preconditioned = SOAP(matrices, lr=recipe.peak_lr, weight_decay=0.0, max_precondition_dim=SOAP_DIMENSION)
    return [preconditioned, torch.optim.Adam(others, lr=recipe.peak_lr, fused=True)]


def schedule_free_adam(parameters: Parameters, recipe: Recipe) -> list[Optimizer]:
    """Schedule-free Adam (Defazio et al. 2024, arXiv 2405.15682) for everything."""
    from schedulefree import AdamWScheduleFree

    return [AdamWScheduleFree([p for p, _ in parameters], lr=recipe.peak_lr)]


def signum(parameters: Parameters, recipe: Recipe) -> list[Optimizer]:
    """The sign of the gradient, with schedule-free momentum 0.95, for everything: what sparsify calls Signum."""
    from pytorch_optimizer import SignSGD
    from schedulefree import ScheduleFreeWrapper

    base = SignSGD([p for p, _ in parameters], lr=recipe.peak_lr, momentum=0.0)
    return [ScheduleFreeWrapper(base, momentum=0.95)]


def lion(parameters: Parameters, recipe: Recipe) -> list[Optimizer]:
    """Lion (Chen et al. 2023, arXiv 2302.06675) for everything."""
    from pytorch_optimizer import Lion

    return [Lion([p for p, _ in parameters], lr=recipe.peak_lr)]


def sgd(parameters: Parameters, recipe: Recipe) -> list[Optimizer]:
    """Gradient descent with momentum 0.9 for everything."""
    return [torch.optim.SGD([p for p, _ in parameters], lr=recipe.peak_lr, momentum=0.9)]


def _by_role(parameters: Parameters) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices and the rest, by what the parameters are for."""
    return [p for p, role in parameters if role in MATRICES], [p for p, role in parameters if role not in MATRICES]


def build_optimizers(recipe: Recipe, model: nn.Module) -> list[Optimizer]:
    """The optimizers that together update every parameter of `model` once a step."""
    roles = parameter_roles(model)
    build = OPTIMIZERS[recipe.optimizer].load()
    optimizers: list[Optimizer] = build([(p, roles[n]) for n, p in model.named_parameters()], recipe)
    _call(optimizers, "train")
    return optimizers


@contextmanager
def averaged_weights(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Within, the model has the weights that schedule-free optimizers stand for; others have no others.

    After it all weights are as they were, bit for bit, though averaging and back rounds: how often a cell is
    measured decides nothing that is trained.
    """
    averaging = [optimizer for optimizer in optimizers if hasattr(optimizer, "eval")]
    weights = [p for optimizer in averaging for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in weights]
    _call(optimizers, "eval")
    try:
        yield
    finally:
        _call(optimizers, "train")
        with torch.no_grad():
            for p, value in zip(weights, before, strict=True):
                p.copy_(value)


def _call(optimizers: Sequence[Optimizer], mode: str) -> None:
    for optimizer in optimizers:
        getattr(optimizer, mode, lambda: None)()


def clip(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Scale all gradients down to a total norm of `limit` where they exceed it."""
    with_gradient = [p for p in parameters if p.grad is not None]
    norm = get_total_norm([p.grad for p in with_gradient if p.grad is not None], foreach=True)
    # Scaling by 1 changes nothing, but passes over all of them; on a GPU, to find out would be a synchronisation.
    if norm.is_cuda or not norm <= limit:
        clip_grads_with_norm_(with_gradient, limit, norm, foreach=True)


def set_learning_rate(optimizers: Sequence[Optimizer], lr: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


def learning_rate(step: int, recipe: Recipe) -> float:
    """Trapezoid: up over the first `warmup` share of the steps, level, down over the last `decay` share.

    step: 0-based. The first step already moves (its rate is not 0), and so does the last one. A schedule-free
    optimizer's rate stays up.
    """
    decay = 0.0 if OPTIMIZERS[recipe.optimizer].schedule_free else recipe.decay
    rise = (step + 1) / max(1.0, recipe.warmup * recipe.steps)
    fall = (recipe.steps - step) / max(1.0, decay * recipe.steps)
    return recipe.peak_lr * min(1.0, rise, fall)
