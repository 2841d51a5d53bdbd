"""On which tokens of a text the latents of an SAE fire, and how strongly.

Shape letters: T tokens, N latents of all coders, A entries: pairs of a token and a latent that fires on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness.evaluation.known_features import Codes, codes_of
from harness.interpretability.text import Text
from harness.training.metrics import EVALUATION_BATCH, HeldOut
from harness.training.trained_sae import TrainedSAE

Integers = NDArray[np.integer[Any]]
CODES_AT_ONCE = 2**25  # numbers of [tokens, N]: of SAEs without top-k, a batch's codes are as many


class Neighbours(NamedTuple):
    """The latents whose firings are most like those of another one, the nearest first; only such as fire with it.

    alike: by the Jaccard index: tokens on which both fire, over tokens on which one does.
    """

    latents: NDArray[np.int64]  # [n]
    alike: NDArray[np.float64]  # [n]


@dataclass(frozen=True)
class Firings:
    """All entries, ordered by latent and then by token."""

    tokens: Integers  # [A], rows of the text
    latents: Integers  # [A]
    values: NDArray[np.float32]  # [A], above 0
    total: int  # T
    layers: tuple[int, ...]  # latents of each coder

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each latent's entries begin, and where the last one's end: [N + 1]."""
        return np.searchsorted(self.latents, np.arange(sum(self.layers) + 1))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of tokens that each latent fires on: [N]."""
        return np.diff(self.starts)

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Share of the tokens that each latent fires on: [N]."""
        return self.counts / max(1, self.total)

    def layer(self, latent: int) -> int:
        """The coder that a latent belongs to, from 0."""
        return int(np.searchsorted(np.cumsum(self.layers), latent, side="right"))

    def of(self, latent: int) -> tuple[Integers, NDArray[np.float32]]:
        """The tokens that a latent fires on, ascending, and its values there."""
        here = slice(self.starts[latent], self.starts[latent + 1])
        return self.tokens[here], self.values[here]

    @cached_property
    def _by_token(self) -> tuple[Integers, NDArray[np.int64]]:
        """The latents of all entries by token; where each token's begin, and the last one's end: [T + 1]."""
        order = np.argsort(self.tokens, kind="stable")
        starts = np.concatenate([[0], np.bincount(self.tokens, minlength=self.total).cumsum()])
        return self.latents[order], starts

    def neighbours(self, latent: int, most: int = 1) -> Neighbours:
        """The nearest latents by co-firing, at most so many; none where no other fires on its tokens."""
        tokens, _ = self.of(latent)
        both = np.bincount(self._on(tokens), minlength=len(self.counts))
        both[latent] = 0
        others = np.flatnonzero(both)
        alike = both[others] / (self.counts[others] + len(tokens) - both[others])
        nearest = np.argsort(-alike, kind="stable")[:most]
        return Neighbours(others[nearest], alike[nearest])

    def _on(self, tokens: Integers) -> Integers:
        """The latents of all entries on these tokens."""
        latents, starts = self._by_token
        first, sizes = starts[tokens], starts[tokens + 1] - starts[tokens]
        before = np.repeat(sizes.cumsum() - sizes, sizes)
        found: Integers = latents[np.repeat(first, sizes) + np.arange(len(before)) - before]
        return found


@torch.no_grad()
def firings_of(sae: TrainedSAE, text: Text) -> Firings:
    """Code every token of the text once, on the SAE's device. Of the text, only a batch at a time is there."""
    device, latents = sae.input_mean.device, sae.sae.latents
    batch = max(1, min(EVALUATION_BATCH, CODES_AT_ONCE // latents))
    blocks: list[Codes] = []
    for start in range(0, len(text), batch):
        x = sae.input.centre(text.x[start : start + batch].to(device))
        (block,) = codes_of(lambda rows, _: sae.code(rows), HeldOut(x, 1.0, batch=batch))
        blocks.append(Codes(start, start + len(x), *(part.cpu() for part in block[2:])))
    tokens = torch.cat([block.tokens + block.start for block in blocks]).int().numpy()
    of_latents = torch.cat([block.latents for block in blocks]).numpy()
    values = torch.cat([block.values.float() for block in blocks]).numpy()
    order = np.lexsort((tokens, of_latents))
    layers = tuple(coder.latents for coder in sae.sae.stack())
    return Firings(tokens[order], of_latents[order], values[order], len(text), layers)


def sampled_latents(latents: int, count: int, seed: int) -> NDArray[np.int64]:
    """A random sample of so many latents, or all if there are not more; dead ones are drawn like all others."""
    order = np.random.default_rng([seed, 1]).permutation(latents)
    return np.sort(order[:count])
