"""Means over seeds with 95 % t-intervals. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal, TypeAlias

from scipy import stats

CONFIDENCE = 0.95

Verdict: TypeAlias = Literal["lower", "higher", "level at this budget", "no interval"]


@dataclass(frozen=True)
class Interval:
    """A mean of `n` values; `low` and `high` are None where one value says nothing about the spread."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def verdict(self) -> Verdict:
        """What a difference with this interval allows to say."""
        if self.low is None or self.high is None:
            return "no interval"
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "level at this budget"


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's t-interval of the mean: mean ± t(n - 1) s / sqrt(n). None without values.

    Raises ValueError on a value that is not finite: a lost seed must be left out by name, not averaged.
    """
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"expected finite values, got {list(values)}")
    n = len(values)
    if n < 2:
        return Interval(values[0], None, None, 1) if n else None
    mean = fmean(values)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def seedwise_mean(pairs: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """For each seed that every mapping has: the mean over the mappings.

    A seed that one of them lacks is left out: the others' average would be of something else.
    """
    if not pairs:
        return {}
    common = set.intersection(*(set(pair) for pair in pairs))
    return {seed: fmean(pair[seed] for pair in pairs) for seed in sorted(common)}
