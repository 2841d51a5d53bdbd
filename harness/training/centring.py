"""From a language model's own units to those that SAEs are trained in, and back.

Shape letters: B tokens, D activation width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Centring(NamedTuple):
    """mean [D] and scale [], float32, in the language model's units: x is used as (x - mean) / scale."""

    mean: Tensor
    scale: Tensor

    def centre(self, rows: Tensor) -> Tensor:
        """Rows [B, D] in float32, centred and scaled, in memory of their own."""
        return rows.to(torch.float32, copy=True).sub_(self.mean).div_(self.scale)

    def restore(self, rows: Tensor) -> Tensor:
        """Back to the language model's units: [B, D]."""
        return rows * self.scale + self.mean

    @property
    def scaled_mean(self) -> Tensor:
        """The mean in the units of centred rows: [D]."""
        return self.mean / self.scale
