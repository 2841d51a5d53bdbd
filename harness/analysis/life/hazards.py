"""Rates of events over seeds: estimates, intervals and ratios. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy import stats

from harness.analysis.arms.statistics import Interval
from harness.inference.constants import CONFIDENCE

UPPER = (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Events:
    """What one seed saw: a number of events in so many latents times million tokens at risk."""

    count: int
    exposure: float


@dataclass(frozen=True)
class Dispersion:
    """By what factor counts of seeds vary more than Poisson counts do; degrees of freedom of this estimate."""

    factor: float
    df: int


def dispersion(groups: Iterable[Sequence[Events]]) -> Dispersion:
    """Pearson's chi-squared of seeds within groups over its degrees of freedom, but at least 1.

    McCullagh & Nelder 1989, Generalized Linear Models, section 6.2.3. Groups without events say nothing.
    """
    squares, df = 0.0, 0
    for events in groups:
        rate, known = pooled_rate(events), [one for one in events if one.exposure > 0]
        if rate and len(known) > 1:
            squares += sum((one.count - rate * one.exposure) ** 2 / (rate * one.exposure) for one in known)
            df += len(known) - 1
    return Dispersion(max(1.0, squares / df) if df else 1.0, df)


def pooled_rate(events: Sequence[Events]) -> float | None:
    """Events per latent and million tokens at risk, all seeds together; None where nothing was at risk."""
    exposure = sum(one.exposure for one in events)
    return sum(one.count for one in events) / exposure if exposure > 0 else None


def rate_interval(events: Sequence[Events], spread: Dispersion) -> Interval | None:
    """The rate with its interval: the exact one of a Poisson count (Garwood 1936), as if `spread` events made one.

    None where nothing was at risk. One seed has no interval.
    """
    rate = pooled_rate(events)
    if rate is None:
        return None
    if len(events) < 2 or not spread.df:
        return Interval(rate, None, None, len(events))
    times, exposure = _widened(spread), sum(one.exposure for one in events)
    count = sum(one.count for one in events) / times
    low = float(stats.gamma.ppf(1 - UPPER, count)) if count else 0.0
    high = float(stats.gamma.ppf(UPPER, count + 1))
    return Interval(rate, times * low / exposure, times * high / exposure, len(events))


def ratio_interval(events: Sequence[Events], reference: Sequence[Events], spread: Dispersion) -> Interval | None:
    """The rate as a multiple of the reference's; interval: the logarithm's, half an event added to both counts.

    None where the reference had no event, or nothing was at risk.
    """
    rate, other = pooled_rate(events), pooled_rate(reference)
    if rate is None or not other:
        return None
    n = min(len(events), len(reference))
    if n < 2 or not spread.df:
        return Interval(rate / other, None, None, n)
    counts = [sum(one.count for one in side) + 0.5 for side in (events, reference)]
    middle = counts[0] / counts[1] * (sum(e.exposure for e in reference) / sum(e.exposure for e in events))
    half = float(stats.norm.ppf(UPPER)) * math.sqrt(_widened(spread) * sum(1 / count for count in counts))
    low = middle * math.exp(-half) if rate else 0.0
    return Interval(rate / other, low, middle * math.exp(half), n)


def _widened(spread: Dispersion) -> float:
    """The dispersion, larger by what its own uncertainty adds: Student's quantile over the normal one, squared."""
    return spread.factor * float(stats.t.ppf(UPPER, spread.df) / stats.norm.ppf(UPPER)) ** 2
