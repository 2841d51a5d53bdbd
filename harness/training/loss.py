"""The loss of a step: the mean squared error, and the terms that the recipe gives a weight."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from harness.sae.model import SAE, Coded
from harness.sae.penalties import PENALTIES, activity, aux_k_error, prefix_error
from harness.study.recipe import Recipe, parse_shares


def loss_of(recipe: Recipe, sae: SAE, coded: Coded, x: Tensor, dead: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, with gradient, and the mean squared error in it: two numbers.

    x [B, D]: what the SAE saw; dead [latents]: those silent for the dead window.
    """
    error = loss = mse_loss(coded.reconstruction, x)
    if recipe.penalty:
        loss = loss + recipe.penalty * PENALTIES[recipe.penalty_on](sae, coded)
    if recipe.sparsity:
        loss = loss + recipe.sparsity * activity(sae, coded)
    if recipe.aux_k and recipe.aux_weight:
        loss = loss + recipe.aux_weight * aux_k_error(sae, coded, dead, recipe.aux_k)
    if shares := parse_shares(recipe.prefixes):
        loss = loss + prefix_error(sae, coded, x, shares)
    return loss, error.detach()


def active_at(step: int, recipe: Recipe) -> int:
    """Active latents a token at a step (0-based): from `k_start` linearly to `k`, over the share `k_decay`."""
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
