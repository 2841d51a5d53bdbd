"""On which tokens of a text the latents of an SAE fire, and how strongly.

Shape letters: T tokens, N latents of all coders, A entries: pairs of a token and a latent that fires on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from harness.evaluation.known_features import codes_of
from harness.interpretability.text import Text
from harness.training.metrics import HeldOut
from harness.training.trained_sae import TrainedSAE


@dataclass(frozen=True)
class Firings:
    """All entries, ordered by latent and then by token."""

    tokens: NDArray[np.int64]  # [A], rows of the text
    latents: NDArray[np.int64]  # [A]
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

    def of(self, latent: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The tokens that a latent fires on, in their order, and its values there."""
        here = slice(self.starts[latent], self.starts[latent + 1])
        return self.tokens[here], self.values[here]

    @cached_property
    def _by_token(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The latents of all entries by token; where each token's begin, and the last one's end: [T + 1]."""
        order = np.argsort(self.tokens, kind="stable")
        return self.latents[order], np.searchsorted(self.tokens[order], np.arange(self.total + 1))

    def neighbour(self, latent: int) -> int | None:
        """The latent whose firings are most like those of this one; None where no other fires on its tokens.

        By the Jaccard index: tokens on which both fire, over tokens on which one does.
        """
        tokens, _ = self.of(latent)
        if not len(tokens):
            return None
        latents, starts = self._by_token
        others = np.concatenate([latents[starts[token] : starts[token + 1]] for token in tokens])
        both = np.bincount(others, minlength=len(self.counts))
        both[latent] = 0
        alike = both / np.maximum(1, self.counts + len(tokens) - both)
        best = int(alike.argmax())
        return best if both[best] else None


def firings_of(sae: TrainedSAE, text: Text) -> Firings:
    """Code every token of the text once, on the SAE's device."""
    device = sae.input_mean.device
    held_out = HeldOut(sae.input.centre(text.x.to(device)), 1.0)
    blocks = codes_of(lambda x, _: sae.code(x), held_out)
    tokens = torch.cat([block.tokens.long() + block.start for block in blocks]).cpu().numpy()
    latents = torch.cat([block.latents.long() for block in blocks]).cpu().numpy()
    values = torch.cat([block.values.float() for block in blocks]).cpu().numpy()
    order = np.lexsort((tokens, latents))
    layers = tuple(coder.latents for coder in sae.sae.stack())
    return Firings(tokens[order], latents[order], values[order], len(text), layers)


def sampled_latents(latents: int, count: int, seed: int) -> NDArray[np.int64]:
    """A random sample of so many latents, or all if there are not more; dead ones are drawn like all others."""
    order = np.random.default_rng([seed, 1]).permutation(latents)
    return np.sort(order[:count])
