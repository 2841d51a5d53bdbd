"""What an SAE is given of an activation, as an axis: each kind a map there, and back for its reconstructions.

Activations come centred and scaled to unit variance. Shape letters: B tokens, D activation width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class ModelInput(NamedTuple):
    """x: what the SAE sees [B, D]. norm: what each token was divided by for it [B, 1], where it was."""

    x: Tensor
    norm: Tensor | None = None


class Inputs(NamedTuple):
    """One kind. `mean` [D]: what centring took away, scaled like the activations.

    there: activations [B, D] and the mean to what the SAE sees. back: its reconstructions [B, D], the mean and
    the norms of `ModelInput` to the activations' own terms.
    """

    there: Callable[[Tensor, Tensor], ModelInput]
    back: Callable[[Tensor, Tensor, Tensor | None], Tensor]


def token_norm(x: Tensor) -> Tensor:
    """Root of the mean square of each token's entries: x [B, D] -> [B, 1]."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-6) / x.shape[1] ** 0.5
    return norm


def unit_norm(x: Tensor, mean: Tensor) -> ModelInput:
    """Every token brought to norm sqrt(D), as in the original deep-SAE runs: all tokens weigh the same."""
    norm = token_norm(x)
    return ModelInput(x / norm, norm)


def times_norm(rows: Tensor, mean: Tensor, norm: Tensor | None) -> Tensor:
    """Back from `unit_norm`. Raises ValueError without the norms, which a reconstruction does not tell."""
    if norm is None:
        raise ValueError("expected each token's norm, since the recipe says inputs: unit_norm; got none")
    return rows * norm


CENTRED = Inputs(lambda x, mean: ModelInput(x), lambda rows, mean, norm: rows)
UNCENTRED = Inputs(lambda x, mean: ModelInput(x + mean), lambda rows, mean, norm: rows - mean)
UNIT_NORM = Inputs(unit_norm, times_norm)
INPUTS = {"centred": CENTRED, "uncentred": UNCENTRED, "unit_norm": UNIT_NORM}
