"""The means of all arms of a study by one outcome, from the figures of their seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from harness.inference.contrast import Contrast
from harness.inference.means import Chosen, Estimate, Mean, Share
from harness.inference.spread import Array, Spreads, moderated, variance

CHOICE_DF = 2  # degrees of freedom of what the choice between settings adds, found by simulation
FEW_EVENTS = 10  # fewer of a kind per seed vary at least as binomial counts do


@dataclass(frozen=True)
class Sample:
    """The figures of one arm, one a seed; those that are compared by ratios as logarithms.

    spread: their own variance, where it is not that of `values`, since these come from several settings.
    inflation, choice: factor and addition to the variance of their mean, see `harness.inference.crossfit`.
    settings: where there is an addition, the means at the settings between which the choice is open.
    total: the count that they are shares of, None where they are none.
    """

    values: Sequence[float]
    spread: float | None = None
    inflation: float = 1.0
    choice: float = 0.0
    settings: Sequence[float] = ()
    total: float | None = None


@dataclass(frozen=True)
class Estimates:
    """The means of all arms of a study by one outcome; None for an arm with fewer than two seeds.

    seeds [arms]: how many each has. unit [arms]: the variance of each mean for a spread (variance, or dispersion
    of shares) of 1. choice [arms]: what is added to it since another setting could have been chosen; inflation
    [arms]: by what factor it is larger for the same reason.
    """

    means: tuple[Estimate | None, ...]
    seeds: Array
    unit: Array
    choice: Array
    inflation: Array
    spreads: Spreads

    @property
    def squared_errors(self) -> Array:
        """The variances of the means; of shares of few events intervals say more."""
        return self.unit * self.spreads.variances + self.choice

    def widened(self, arm: int) -> float:
        """How many times as wide an arm's interval is, since another setting could have been chosen."""
        squared = float(self.squared_errors[arm])
        settled = squared - float(self.choice[arm])
        return math.sqrt(squared / settled * float(self.inflation[arm])) if settled > 0 else 1.0

    def contrast(self, weights: Mapping[int, float]) -> Contrast | None:
        """sum(weight · mean) over arms by their place. None where one of them has no estimate."""
        known = [mean for arm in weights if (mean := self.means[arm]) is not None]
        if len(known) < len(weights):
            return None
        one_seed = float(self._squares(weights) @ (self.seeds * self.squared_errors))
        return Contrast(tuple(weights.values()), tuple(known), self.df(weights), one_seed)

    def df(self, weights: Mapping[int, float]) -> float:
        """Degrees of freedom of the variance of sum(weight · mean). What the choice adds has two for each arm."""
        squares = self._squares(weights)
        df, added = self.spreads.degrees(squares * self.unit), squares * self.choice
        if not added.any():
            return df
        seeds = float(squares @ (self.unit * self.spreads.variances))
        return float((seeds + added.sum()) ** 2 / (seeds**2 / df + np.sum(added**2) / CHOICE_DF))

    def _squares(self, weights: Mapping[int, float]) -> Array:
        squares = np.zeros(len(self.means))
        for arm, weight in weights.items():
            squares[arm] = weight**2
        return squares


def estimates(samples: Sequence[Sample]) -> Estimates:
    """Means of all arms with moderated variances. Arms are independent samples: seeds are not paired.

    Raises ValueError on a value that is not finite: a lost seed must be left out by name, not averaged.
    """
    for sample in samples:
        if not all(math.isfinite(value) for value in sample.values):
            raise ValueError(f"expected finite values, got {list(sample.values)}")
    seeds = np.array([float(len(sample.values)) for sample in samples])
    seen = [_Seen.of(sample) for sample in samples]
    spreads = moderated([one.spread for one in seen], [one.df for one in seen], [one.least for one in seen])
    inflation = np.array([sample.inflation for sample in samples])
    unit = np.array([one.binomial for one in seen]) * inflation / np.maximum(seeds, 1)
    choice = np.array([sample.choice for sample in samples])
    errors = unit * spreads.variances + choice
    means = tuple(
        _estimate(sample, float(error), float(added)) if len(sample.values) > 1 else None
        for sample, error, added in zip(samples, errors, choice, strict=True)
    )
    return Estimates(means, seeds, unit, choice, inflation, spreads)


def _estimate(sample: Sample, squared_error: float, added: float) -> Estimate:
    whole = _mean(sample, fmean(sample.values), squared_error)
    if not added or not sample.settings:
        return whole
    return Chosen(whole, tuple(_mean(sample, mean, squared_error - added) for mean in sample.settings))


def _mean(sample: Sample, mean: float, squared_error: float) -> Estimate:
    if sample.total is None:
        return Mean(mean, math.sqrt(squared_error))
    trials = sample.total * len(sample.values)
    own = fmean(sample.values)
    # at another mean a share varies as binomial ones do
    return Share(mean, _half_count(own, trials) / squared_error)


@dataclass(frozen=True)
class _Seen:
    """What one arm shows of its spread: the variance of its values, of shares relative to a binomial one."""

    spread: float
    df: int
    binomial: float = 1.0
    least: float | None = None

    @classmethod
    def of(cls, sample: Sample) -> _Seen:
        df = max(0, len(sample.values) - 1)
        own = variance(sample.values) if df and sample.spread is None else sample.spread or 0.0
        if sample.total is None or not df:
            return cls(own, df)
        mean = fmean(sample.values)
        binomial = _half_count(mean, sample.total * len(sample.values)) / sample.total
        rounding = 1 / 12 / sample.total**2  # of whole numbers, which may be the same in all seeds
        few = min(mean, 1 - mean) * sample.total < FEW_EVENTS
        without_events = mean in (0, 1)  # says nothing of how counts vary
        return cls(max(own, rounding) / binomial, 0 if without_events else df, binomial, 1.0 if few else None)


def _half_count(mean: float, total: float) -> float:
    """p (1 − p) with half a count on each side, so that it is not 0."""
    p = (mean * total + 0.5) / (total + 1)
    return p * (1 - p)
