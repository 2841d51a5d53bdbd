"""The layers of an SAE as numbers, whatever they are called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layers:
    """encoder, decoder: widths of the added layers in data-flow order, as multiples of the activation width.

    stack: each sparse layer's part of the latents and of k.
    """

    encoder: tuple[float, ...] = ()
    decoder: tuple[float, ...] = ()
    stack: tuple[float, ...] = (1.0,)

    @property
    def depth(self) -> int:
        """Number of sparse layers."""
        return len(self.stack)
