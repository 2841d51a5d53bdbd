"""How well two arms are told apart whose seeds are clusters of latents, and how many of both that takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.inference.constants import ALPHA, t_quantile


@dataclass(frozen=True)
class ClusterVariances:
    """Variance components of a score: of seeds, latents in a seed, draws of windows, a judge's repetitions."""

    seed: float
    latent: float
    draw: float = 0.0
    repetition: float = 0.0

    def within(self, draws: int, repetitions: int) -> float:
        """Of a seed, at one latent."""
        return self.latent + self.draw / draws + self.repetition / (draws * repetitions)


def half_width(known: ClusterVariances, seeds: int, latents: int, draws: int, repetitions: int) -> float:
    """Half of the 95 % interval of the difference between two arms of so many seeds, each of so many latents.

    t(2S − 2) · sqrt(2 (seed + within / L) / S). Infinite with one seed.
    """
    if seeds < 2:
        return math.inf
    of_seed = known.seed + known.within(draws, repetitions) / latents
    return t_quantile(ALPHA / 2, 2 * seeds - 2) * math.sqrt(2 * of_seed / seeds)


def latents_needed(half: float, known: ClusterVariances, seeds: int, draws: int, repetitions: int) -> int | None:
    """Latents of each seed at which `half_width` is at most `half`; None where no number of latents is enough."""
    if seeds < 2:
        return None
    room = seeds / 2 * (half / t_quantile(ALPHA / 2, 2 * seeds - 2)) ** 2 - known.seed
    return max(1, math.ceil(known.within(draws, repetitions) / room)) if room > 0 else None
