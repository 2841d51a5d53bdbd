"""From a language model's own units to those that SAEs are trained in, and back.

Shape letters: B tokens, D activation width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Centring(NamedTuple):
    """mean [D], scale [] and std [D], float32, in the language model's units: x is used as (x - mean) / scale.

    std: standard deviation of each dimension, for `inputs: standardised`; None where it is not known.
    """

    mean: Tensor
    scale: Tensor
    std: Tensor | None = None

    @classmethod
    def none(cls, width: int) -> Centring:
        """What leaves activations of `width` dimensions as they are."""
        return cls(torch.zeros(width), torch.ones(()), torch.ones(width))

    def to(self, device: torch.device) -> Centring:
        """The same on a device."""
        std = None if self.std is None else self.std.to(device)
        return Centring(self.mean.to(device), self.scale.to(device), std)

    def centre(self, rows: Tensor, into: Tensor | None = None) -> Tensor:
        """Rows [B, D] in float32, centred and scaled, in memory of their own or that of `into` [B, D]."""
        if into is None:
            return rows.to(torch.float32, copy=True).sub_(self.mean).div_(self.scale)
        return torch.sub(rows, self.mean, out=into).div_(self.scale)

    def restore(self, rows: Tensor) -> Tensor:
        """Back to the language model's units: [B, D]."""
        return rows * self.scale + self.mean

    @property
    def scaled_mean(self) -> Tensor:
        """The mean in the units of centred rows: [D]."""
        return self.mean / self.scale

    @property
    def scaled_std(self) -> Tensor:
        """Standard deviations in the units of centred rows: [D], 1 for a dimension that is constant.

        Raises ValueError where they are not known.
        """
        if self.std is None:
            raise ValueError("expected each dimension's standard deviation, for inputs: standardised; got none")
        return torch.where(self.std > 0, self.std / self.scale, 1.0)
