"""The matrices of an SAE, and what products with them cost: 2 floating-point operations for each multiply-add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Shape = tuple[int, int]


@dataclass(frozen=True)
class Shapes:
    """The matrices of one coder. encoder_mlp, decoder_mlp: of its added layers, (width in, width out)."""

    encoder_mlp: Sequence[Shape]
    decoder_mlp: Sequence[Shape]
    encoder: Shape  # latents, width at the sparse layer
    decoder: Shape  # latents, width after it
    first: bool  # whether its input is the data, which needs no gradient: in a transcoder that of all coders

    @property
    def matrices(self) -> list[Shape]:
        return [*self.encoder_mlp, *self.decoder_mlp, self.encoder, self.decoder]

    @property
    def latents(self) -> int:
        return self.encoder[0]

    @property
    def sides(self) -> int:
        """What a product with the encoder gives gradients to: its weights, and its input where that is trained."""
        return 1 if self.first and not self.encoder_mlp else 2

    @property
    def product(self) -> int:
        """FLOPs per token of all pre-activations."""
        return 2 * self.latents * self.encoder[1]

    def encoded(self, active: float) -> float:
        """FLOPs per token of the gradients of so many pre-activations."""
        return active * self.sides * 2 * self.encoder[1]

    def decoded(self, active: float) -> float:
        """FLOPs per token of a reconstruction from so many latents, with the gradients of values and rows."""
        return 2 * 3 * (active * self.decoder[1] + sum(a * b for a, b in self.decoder_mlp))
