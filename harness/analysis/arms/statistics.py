"""Means over the seeds of one arm with 95 % t-intervals, where arms are not compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from harness.inference.constants import ALPHA, t_quantile


@dataclass(frozen=True)
class Interval:
    """A mean of `n` values; `low` and `high` are None where one value says nothing about the spread."""

    mean: float
    low: float | None
    high: float | None
    n: int


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
    half = t_quantile(ALPHA / 2, n - 1) * stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)
