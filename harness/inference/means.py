"""Means of arms over their seeds, each with the interval that its kind allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from scipy import special

from harness.inference.constants import t_quantile


class Estimate(Protocol):
    """The mean of one arm's seeds."""

    @property
    def mean(self) -> float: ...

    def bounds(self, tail: float, df: float) -> tuple[float, float]:
        """Limits that the true mean lies beyond in `tail` of cases each, if the variance has `df` degrees."""
        ...


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error, normally distributed: bounds by Student's t."""

    mean: float
    error: float

    def bounds(self, tail: float, df: float) -> tuple[float, float]:
        half = t_quantile(tail, df) * self.error
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Positive:
    """A mean of positive numbers with the standard error of its logarithm: bounds are multiples of the mean."""

    mean: float
    error: float

    def bounds(self, tail: float, df: float) -> tuple[float, float]:
        factor = math.exp(t_quantile(tail, df) * self.error)
        return self.mean / factor, self.mean * factor


@dataclass(frozen=True)
class Chosen:
    """A mean of seeds that may be at one setting or another: it lies among the means at `settings`, and so do its
    bounds, but for the errors of these."""

    whole: Estimate
    settings: tuple[Estimate, ...]

    @property
    def mean(self) -> float:
        return self.whole.mean

    def bounds(self, tail: float, df: float) -> tuple[float, float]:
        low, high = self.whole.bounds(tail, df)
        ends = [setting.bounds(tail, df) for setting in self.settings]
        lowest, highest = min(end[0] for end in ends), max(end[1] for end in ends)
        return min(self.mean, max(low, lowest)), max(self.mean, min(high, highest))


@dataclass(frozen=True)
class Share:
    """A mean share of a count. `trials`: binomial trials of which it would have the same variance.

    Bounds are Jeffreys' (Brown, Cai & DasGupta 2001, section 4.3: beta quantiles with half a count on each side),
    with the trials reduced by (z / t)² since the variance is estimated, as Korn & Graubard 1998 do for samples of
    clusters: seeds are the clusters. They stay within 0 to 1 and never exclude the share itself.
    """

    mean: float
    trials: float

    def bounds(self, tail: float, df: float) -> tuple[float, float]:
        trials = self.trials * (special.ndtri(1 - tail) / t_quantile(tail, df)) ** 2
        hits, misses = self.mean * trials + 0.5, (1 - self.mean) * trials + 0.5
        low = 0.0 if self.mean <= 0 else float(special.betaincinv(hits, misses, tail))
        high = 1.0 if self.mean >= 1 else float(special.betaincinv(hits, misses, 1 - tail))
        return min(low, self.mean), max(high, self.mean)
