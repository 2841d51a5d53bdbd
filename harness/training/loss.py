"""The loss of a step: the mean squared error, and the terms that the recipe gives a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.sae.model import SAE, SAEOutput
from harness.sae.penalties import BatchStatistic, aux_k_error, prefix_error
from harness.sae.squared_error import squared_error
from harness.study.catalogue import parse_shares, terms_of
from harness.study.recipe import Recipe

StatisticGradient = list[Tensor]  # gradients of a term by the means that it is made of
Term = (
    BatchStatistic | Callable[[Recipe, Tensor], BatchStatistic]
)  # or what makes it of a recipe and of what is dead


class Loss(NamedTuple):
    """Three numbers."""

    loss: Tensor  # with gradient
    error: Tensor  # the mean squared error in it
    squares: Tensor  # the sum of the target's squares


def loss_of(
    recipe: Recipe,
    sae: SAE,
    output: SAEOutput,
    target: Tensor,
    dead: Tensor,
    gradients_by_statistic: Sequence[StatisticGradient] | None = None,
) -> Loss:
    """The loss, with gradient, and what it is made of.

    target [B, D]: what it is to reconstruct, which is what an SAE saw; dead [latents]: those silent for the dead
    window. gradients_by_statistic: for a part of a batch, the gradients with respect to the whole batch's means
    (`statistic_gradients`); the parts' gradients, weighted by their tokens, are then those of the whole.
    """
    error, squares = squared_error(output.reconstruction, target)
    loss = error
    for number, (weight, term) in enumerate(terms_with_weights(recipe, dead)):
        if gradients_by_statistic is None:
            loss = loss + weight * term(sae, output)
        else:
            parts = zip(gradients_by_statistic[number], term.means(sae, output), strict=True)
            loss = loss + weight * torch.stack([(pull * mean).sum() for pull, mean in parts]).sum()
    return Loss(loss, error.detach(), squares)


def aux_k(recipe: Recipe, dead: Tensor) -> BatchStatistic:
    return aux_k_error(dead, recipe.aux_k or 0)


def prefixes(recipe: Recipe, dead: Tensor) -> BatchStatistic:
    shares = parse_shares(recipe.prefixes)
    return BatchStatistic(lambda sae, output: [prefix_error(sae, output, shares)], lambda sae, means: means[0])


def terms_with_weights(recipe: Recipe, dead: Tensor) -> list[tuple[float, BatchStatistic]]:
    """The terms of the loss besides the error. dead [latents]: those silent for the dead window."""
    terms: list[tuple[float, Term]] = [(spec.weight(recipe), spec.load()) for spec in terms_of(recipe)]
    return [(weight, term if isinstance(term, BatchStatistic) else term(recipe, dead)) for weight, term in terms]


def statistic_gradients(
    recipe: Recipe, sae: SAE, dead: Tensor, means: Sequence[Sequence[Tensor]]
) -> list[StatisticGradient]:
    """The gradients of the terms by their means over a batch, given for each term."""
    gradients_by_statistic: list[StatisticGradient] = []
    for (_, term), given in zip(terms_with_weights(recipe, dead), means, strict=True):
        leaves = [mean.detach().requires_grad_() for mean in given]
        gradients_by_statistic.append(list(torch.autograd.grad(term.value(sae, leaves), leaves)))
    return gradients_by_statistic


def active_at(step: int, recipe: Recipe) -> int:
    """Active latents per token at a step (0-based): from `k_start` linearly to `k`, over the share `k_decay`."""
    if not recipe.k_start:
        return recipe.k
    passed = min(1.0, step / max(1.0, recipe.k_decay * recipe.steps))
    return round(recipe.k_start + (recipe.k - recipe.k_start) * passed)


def resamples_at(step: int, recipe: Recipe) -> bool:
    """Whether dead latents start again after so many steps: the second half of the training is left to learn."""
    if not recipe.resample or step == 0 or 2 * step > recipe.steps:
        return False
    every = max(1, recipe.resample // recipe.batch)
    return step % every == 0
