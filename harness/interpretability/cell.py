"""An SAE with what its latents do on a text: what is asked of them, and what every figure of them is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.firings import Firings, firings_of, sampled_latents
from harness.interpretability.text import Text
from harness.interpretability.windows import Windows
from harness.study.interpretability import Interpretability
from harness.training.trained_sae import TrainedSAE

# Columns of the table of latents: one value per sampled latent, None (or NaN) where there is none.
Columns: TypeAlias = Mapping[str, Sequence[Any] | NDArray[Any]]

DENSE = 0.1  # a latent that fires on a larger share of the tokens is dense


@dataclass(frozen=True)
class CellLatents:
    """The latents of one cell: a component takes this and returns `Columns`.

    sample: the latents that are asked about [S], in their order, dead ones among them.
    """

    sae: TrainedSAE
    text: Text
    windows: Windows
    firings: Firings
    sample: NDArray[np.int64]
    asked: Interpretability
    device: str

    @classmethod
    def of(
        cls,
        sae: TrainedSAE,
        text: Text,
        windows: Windows,
        asked: Interpretability,
        device: str,
        firings: Firings | None = None,
    ) -> CellLatents:
        """Codes the text, unless `firings` has its codes. The SAE is on `device`."""
        firings = firings_of(sae, text) if firings is None else firings
        sample = sampled_latents(len(firings.counts), asked.latents, asked.seed)
        return cls(sae, text, windows, firings, sample, asked, device)

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Which of the sample fire on some token of the text: [S]."""
        return self.firings.counts[self.sample] > 0

    def described(self) -> Columns:
        """What the firings alone tell: `latent`, `layer`, `firing_rate`, `dead`, `dense`, neighbours, maxima."""
        firings, sample = self.firings, self.sample
        rates = firings.rates[sample]
        nearest = [firings.neighbours(int(latent)) for latent in sample]
        return {
            "latent": sample,
            "layer": [firings.layer(int(latent)) for latent in sample],
            "firing_rate": rates,
            "dead": ~self.alive,
            "dense": rates > DENSE,
            "neighbour": [int(found.latents[0]) if len(found.latents) else None for found in nearest],
            "neighbour_jaccard": [float(found.alike[0]) if len(found.alike) else None for found in nearest],
            "max_activation": [float(firings.of(int(latent))[1].max(initial=0)) for latent in sample],
        }
