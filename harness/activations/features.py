"""Random features with known rates, correlations and hierarchy. numpy only."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from harness.sources.synthetic import Synthetic


Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

MEAN, STD, LEAST = 1.0, 0.25, 0.1  # of a feature's value where it fires
MAX_RATE = 0.5  # the largest share of tokens that a feature fires on
OF_PARENT = 0.5  # the largest share of its parent's tokens that a child fires on


class FeatureLaw:
    """A Gaussian copula over F features, the most frequent one first.

    Feature f fires on a token where sqrt(c_f) g + sqrt(1 - c_f) e_f < threshold_f, where g is a standard
    normal shared by its group on this token, e_f its own, and c_f the `correlation`. A child (`hierarchy`) has
    c_f = 0 and fires only if its parent fires, too: it has its parent's correlations, and no others.
    Thresholds are quantiles such that every feature fires at its rate (see `firing_rates`). Tokens are
    independent of each other.
    """

    def __init__(self, wanted: Synthetic, random: np.random.Generator) -> None:
        """random: draws which features are children, and of which parents."""
        self.parents = draw_parents(wanted.features, wanted.hierarchy, random)  # [F]; itself if no child
        self.groups = (np.arange(wanted.features) % wanted.groups)[self.parents]  # [F]
        self.rates = firing_rates(wanted.active, wanted.zipf, self.parents)  # [F], share of tokens
        roots = self.parents == np.arange(wanted.features)
        own = np.where(roots, self.rates, self.rates / self.rates[self.parents])
        self._thresholds = np.array([NormalDist().inv_cdf(p) for p in own], np.float32)
        self._shared = np.sqrt(np.where(roots, wanted.correlation, 0)).astype(np.float32)
        self._own = np.sqrt(1 - np.square(self._shared))

    def draw(self, tokens: int, random: np.random.Generator) -> Floats:
        """Values [tokens, F]: if a feature fires, normal with mean 1 and std 0.25, at least 0.1; otherwise 0.

        Values are rounded to float16, so that a float16 file stores them exactly.
        """
        group = random.standard_normal((tokens, int(self.groups.max()) + 1), np.float32)
        behind = random.standard_normal((tokens, len(self.rates)), np.float32)
        behind *= self._own
        behind += self._shared * group[:, self.groups]
        fires = behind < self._thresholds
        fires &= fires[:, self.parents]
        size = random.standard_normal(int(fires.sum()), np.float32)
        values = np.zeros(fires.shape, np.float32)
        values[fires] = np.maximum(MEAN + STD * size, LEAST).astype(np.float16)
        return values


def most_active(features: int, hierarchy: float) -> float:
    """The largest mean number of features that can fire on a token, where the share `hierarchy` are children."""
    return MAX_RATE * features * (1 - (1 - OF_PARENT) * hierarchy)


def draw_parents(features: int, hierarchy: float, random: np.random.Generator) -> Indices:
    """Parent of each feature [F], its own index where it is no child.

    A share of `hierarchy` are children, never the first; a parent is a more frequent feature that is no child.
    """
    parents = np.arange(features)
    children = 1 + random.permutation(features - 1)[: int(hierarchy * features)]
    roots = np.setdiff1d(parents, children)
    parents[children] = roots[random.integers(np.searchsorted(roots, children))]
    return parents


def firing_rates(active: float, zipf: float, parents: Indices) -> NDArray[np.float64]:
    """Share of tokens [F] on which each feature fires: c rank^-zipf, with c such that they sum to `active`.

    Clipped at 1/2, and for a child at half of its parent's rate; a larger c makes up for that.
    """
    weights = np.arange(1, len(parents) + 1) ** -zipf
    child = parents != np.arange(len(parents))

    def rates(scale: float) -> NDArray[np.float64]:
        free = np.minimum(scale * weights, MAX_RATE)
        clipped: NDArray[np.float64] = np.minimum(free, np.where(child, OF_PARENT * free[parents], MAX_RATE))
        return clipped

    # The sum grows with c: at `low` it is too small, at `high` all rates are as large as they can be.
    low, high = active / weights.sum(), MAX_RATE / weights[-1]
    for _ in range(200):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if rates(middle).sum() < active else (low, middle)
    return rates(high)
