"""What is trained in a benchmark, in words that every package understands. torch only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

DEAD_SHARE = 4  # with aux-k a quarter of the latents is dead, so that its term has work to do
AUX_WEIGHT = 1 / 32
LR = 4e-4
TOKENS = 100_000  # kept in memory: nobody is timed reading
CENTRES = 64


@dataclass(frozen=True)
class Shape:
    """A top-k SAE and its batch. more: fields of our recipe, for what only we are asked."""

    width: int
    latents: int
    k: int
    batch: int
    aux: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def dead(self) -> int:
        """Latents that are made dead."""
        return self.latents // DEAD_SHARE if self.aux else 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.width}, {self.latents:,}, {self.k}, {self.batch:,}"


SIZES = (Shape(256, 4096, 32, 4096), Shape(768, 6144, 32, 4096), Shape(768, 24_576, 32, 2048))
QUICK = (Shape(32, 256, 8, 256),)


def activations(width: int, tokens: int = TOKENS) -> Tensor:
    """The same for everybody, [tokens, width]: clusters, a falling spectrum, noise; centred and scaled."""
    generator = torch.Generator().manual_seed(0)
    rank = max(1, width // 4)
    centres = torch.randn(CENTRES, width, generator=generator)
    directions = torch.randn(rank, width, generator=generator)
    directions *= torch.arange(1, rank + 1).pow(-0.5).unsqueeze(1)
    x = centres[torch.randint(CENTRES, (tokens,), generator=generator)]
    x += torch.randn(tokens, rank, generator=generator) @ directions
    x += 0.1 * torch.randn(tokens, width, generator=generator)
    x -= x.mean(0)
    return x / x.square().mean().sqrt()


class Batches:
    """One batch of `x` after the other, from the beginning again where it ends."""

    def __init__(self, x: Tensor, batch: int) -> None:
        self._x, self._batch, self._at = x, batch, 0

    def __call__(self) -> Tensor:
        if self._at + self._batch > len(self._x):
            self._at = 0
        self._at += self._batch
        return self._x[self._at - self._batch : self._at]
