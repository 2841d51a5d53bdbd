"""What an SAE is given of an activation, as an axis: each a map there, and back for its reconstructions.

Activations come centred and scaled to unit variance. Shape letters: B tokens, D activation width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Given(NamedTuple):
    """x: what the SAE sees [B, D]. back: its reconstruction [B, D] in the activations' own terms."""

    x: Tensor
    back: Callable[[Tensor], Tensor]


def centred(x: Tensor, mean: Tensor) -> Given:
    """As it is."""
    return Given(x, lambda rows: rows)


def uncentred(x: Tensor, mean: Tensor) -> Given:
    """With the mean [D] (scaled like x) that centring took away."""
    return Given(x + mean, lambda rows: rows - mean)


def unit_norm(x: Tensor, mean: Tensor) -> Given:
    """Every token brought to norm sqrt(D), as in the original deep-SAE runs: all tokens weigh the same."""
    scale = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-6) / x.shape[1] ** 0.5
    return Given(x / scale, lambda rows: rows * scale)


INPUTS: dict[str, Callable[[Tensor, Tensor], Given]] = {
    "centred": centred,
    "uncentred": uncentred,
    "unit_norm": unit_norm,
}
