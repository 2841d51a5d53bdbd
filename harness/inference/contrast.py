"""Contrasts of the means of several arms: interval, p-value, equivalence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import optimize

from harness.inference.constants import CONFIDENCE
from harness.inference.means import Estimate

SMALLEST = 1e-12  # p-values below are not told apart


@dataclass(frozen=True)
class Contrast:
    """sum(weights · means) of several arms, weights summing to 0, as in (1, −1) for a difference.

    seed_variance: what its variance would be with one seed in each arm.
    """

    weights: tuple[float, ...]
    means: tuple[Estimate, ...]
    df: float
    seed_variance: float

    @property
    def value(self) -> float:
        return math.fsum(w * mean.mean for w, mean in zip(self.weights, self.means, strict=True))

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """The interval from those of the means (MOVER: Zou, Huang & Zhang 2009; of two shares Newcombe 1998).

        Of normal means it is value ± t · standard error; of shares it does not leave what is possible.
        """
        below, above = self._distances((1 - confidence) / 2)
        return self.value - below, self.value + above

    def _distances(self, tail: float) -> tuple[float, float]:
        """How far the limits lie below and above the value."""
        below = above = 0.0
        for weight, mean in zip(self.weights, self.means, strict=True):
            low, high = mean.bounds(tail, self.df)
            down, up = weight * (mean.mean - low), weight * (high - mean.mean)
            down, up = (down, up) if weight > 0 else (-up, -down)
            below, above = math.hypot(below, down), math.hypot(above, up)
        return below, above

    def p_value(self) -> float:
        """Two-sided p-value of the hypothesis that it is 0: where the interval would just touch it."""
        if self.value == 0:
            return 1.0
        return min(1.0, 2 * (self._above(0) if self.value > 0 else self._below(0)))

    def p_equivalent(self, low: float, high: float) -> float:
        """p-value of the hypothesis that it is not within `low` to `high`: two one-sided tests (Schuirmann)."""
        return max(self._above(low), self._below(high))

    def _above(self, bound: float) -> float:
        """One-sided p-value of the hypothesis that it is `bound` or less; 1 where the estimate says no better."""
        return _solve(lambda tail: self.value - bound - self._distances(tail)[0]) if self.value > bound else 1.0

    def _below(self, bound: float) -> float:
        return _solve(lambda tail: bound - self.value - self._distances(tail)[1]) if self.value < bound else 1.0


def _solve(room: Callable[[float], float]) -> float:
    """The tail at which the limit reaches a bound: `room` between them grows with the tail."""
    first, last = math.log(SMALLEST), math.log(0.4999)
    if room(math.exp(first)) >= 0:
        return SMALLEST
    if room(math.exp(last)) <= 0:
        return 0.5
    return math.exp(optimize.brentq(lambda log_tail: room(math.exp(log_tail)), first, last, xtol=1e-10))
