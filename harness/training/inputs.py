"""What an SAE is given of an activation, and the way back for its reconstructions.

`harness.study.catalogue.INPUTS` names them. Activations come centred and scaled to unit variance; the `Centring`
says by what. Shape letters: B tokens, D activation width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.study.catalogue import INPUTS
from harness.study.recipe import Recipe
from harness.training.centring import Centring

LEAST = 1e-6  # norm of a token, below which it is not scaled up to that of the others


class TokenStatistics(NamedTuple):
    """By what each token was brought to one norm: it is seen as (x - mean) / norm. Both [..., 1]."""

    mean: Tensor
    norm: Tensor


class ModelInput(NamedTuple):
    """x: what the SAE sees [B, D]. token: what is lost of each token in it, where anything is."""

    x: Tensor
    token: TokenStatistics | None = None


class Inputs:
    """One kind: `there` and `back` are inverse to each other."""

    def there(self, x: Tensor, centring: Centring) -> ModelInput:
        """Activations [B, D], centred and scaled by `centring`, -> what the SAE sees."""
        raise NotImplementedError

    def back(self, rows: Tensor, centring: Centring, token: TokenStatistics | None) -> Tensor:
        """Reconstructions [B, D] of what it saw -> of the activations, centred and scaled."""
        raise NotImplementedError


class Centred(Inputs):
    """Activations as they come."""

    def there(self, x: Tensor, centring: Centring) -> ModelInput:
        return ModelInput(x)

    def back(self, rows: Tensor, centring: Centring, token: TokenStatistics | None) -> Tensor:
        return rows


class Uncentred(Inputs):
    """Activations with their mean."""

    def there(self, x: Tensor, centring: Centring) -> ModelInput:
        return ModelInput(x + centring.scaled_mean)

    def back(self, rows: Tensor, centring: Centring, token: TokenStatistics | None) -> Tensor:
        return rows - centring.scaled_mean


class Standardised(Inputs):
    """Each dimension at unit variance, so that none decides the error by its size. Constant ones stay 0."""

    def there(self, x: Tensor, centring: Centring) -> ModelInput:
        return ModelInput(x / centring.scaled_std)

    def back(self, rows: Tensor, centring: Centring, token: TokenStatistics | None) -> Tensor:
        return rows * centring.scaled_std


class UnitNorm(Inputs):
    """Each centred token at norm sqrt(D): all tokens weigh the same."""

    def there(self, x: Tensor, centring: Centring) -> ModelInput:
        norm = token_norm(x)
        return ModelInput(x / norm, TokenStatistics(torch.zeros_like(norm), norm))

    def back(self, rows: Tensor, centring: Centring, token: TokenStatistics | None) -> Tensor:
        return rows * _needed(token, "unit_norm").norm


class LayerNorm(Inputs):
    """Each token less its mean over dimensions, at norm sqrt(D); the training mean plays no part.

    As Gao et al. 2024 (arXiv 2406.04093, section 2.1) and the original deep-SAE runs, where the norm is 1.
    """

    def there(self, x: Tensor, centring: Centring) -> ModelInput:
        with_mean = x + centring.scaled_mean
        mean = with_mean.mean(1, keepdim=True)
        rows = with_mean - mean
        norm = token_norm(rows)
        return ModelInput(rows / norm, TokenStatistics(mean, norm))

    def back(self, rows: Tensor, centring: Centring, token: TokenStatistics | None) -> Tensor:
        mean, norm = _needed(token, "layer_norm")
        return rows * norm + mean - centring.scaled_mean


def inputs_of(recipe: Recipe) -> Inputs:
    """Those of a recipe."""
    inputs: Inputs = INPUTS[recipe.inputs].load()()
    return inputs


def token_norm(x: Tensor) -> Tensor:
    """Root of the mean square of each token's entries: x [B, D] -> [B, 1]."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(LEAST) / x.shape[1] ** 0.5
    return norm


def _needed(token: TokenStatistics | None, inputs: str) -> TokenStatistics:
    if token is None:
        raise ValueError(f"expected each token's mean and norm, since the recipe says inputs: {inputs}; got none")
    return token
