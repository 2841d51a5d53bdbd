"""Where intervals cover less often than they say, by the simulations of docs/statistics.md."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from scipy import stats

from harness.analysis.results.levels import levels_in
from harness.analysis.sentences.text import plural
from harness.analysis.views.view import View
from harness.inference.estimates import FEW_EVENTS
from harness.inference.spread import variance
from harness.metrics import DEAD, FVU

ENOUGH_TUNING_SEEDS = 3
FEWEST_VALUES = 8  # that D'Agostino's test of skewness is for
SKEWED = 0.05  # p-value of that test
DISPERSED = 2.5  # times the variance of binomial counts
MANY_SEEDS = 6  # with fewer, the variances of other arms make up for it


def warnings(view: View) -> Iterator[str]:
    yield from _two_seeds(view)
    yield from _tuning_seeds(view)
    yield from _skewed(view)
    yield from _dispersed(view)


def _two_seeds(view: View) -> Iterator[str]:
    if len(view.study.seeds) == 2:
        yield (
            "Only 2 seeds: how much an arm varies is known from the other arms alone. If one varies twice as much "
            "as they do, its 95 % intervals cover about 92 %."
        )


def _tuning_seeds(view: View) -> Iterator[str]:
    """The chosen setting is one draw for all seeds of an arm, so more seeds do not lessen its error."""
    tuning, seeds = len(view.study.tuning_seeds), len(view.study.seeds)
    if tuning and (tuning < ENOUGH_TUNING_SEEDS or tuning < seeds):
        yield (
            f"Tuned values were chosen on {plural(tuning, 'seed')} and are reported on {plural(seeds, 'seed')}. "
            "Where two settings are close, it is hardly known how much the choice adds to the error: a difference "
            "between equal arms may be found in up to one of ten studies instead of one of twenty. Use at least "
            f"{max(ENOUGH_TUNING_SEEDS, seeds)} tuning seeds, or none: then seeds choose for each other."
        )


def _skewed(view: View) -> Iterator[str]:
    """Of log FVU about each arm's mean, over all arms together: one arm has too few seeds to tell."""
    by_arm: dict[str, list[float]] = {}
    for row in view.tables["seeds"]:
        if row[FVU.name]:
            by_arm.setdefault(row["arm"], []).append(math.log(row[FVU.name]))
    left = [value - fmean(values) for values in by_arm.values() if len(values) > 2 for value in values]
    if len(left) >= FEWEST_VALUES and any(left) and stats.skewtest(left).pvalue < SKEWED:
        yield (
            f"FVU of seeds is skewed within arms (skewness {stats.skew(left):+.1f} of its logarithm): 95 % "
            "intervals of arms may cover only about 91 %; those of differences are hardly affected."
        )


def _dispersed(view: View) -> Iterator[str]:
    """Of dead latents: with few of them, counts that vary more than binomial ones are skewed."""
    shares: dict[str, list[float]] = {}
    totals: dict[str, float] = {}
    for row in view.tables["seeds"]:
        latents = view.study.latents_at(levels_in(row, view.study.axes))
        if row[DEAD.name] is not None and latents is not None:
            shares.setdefault(row["arm"], []).append(row[DEAD.name])
            totals[row["arm"]] = latents
    found = [_dispersion(values, totals[arm]) for arm, values in shares.items() if len(values) >= MANY_SEEDS]
    few = any(0 < fmean(values) * totals[arm] < FEW_EVENTS for arm, values in shares.items())
    if found and few and fmean(found) > DISPERSED:
        yield (
            f"Dead latents differ between seeds {fmean(found):.1f} times as much as by chance alone: 95 % "
            "intervals of arms with few dead latents may cover only about 90 %."
        )


def _dispersion(shares: list[float], total: float) -> float:
    """The variance of the shares over that of binomial ones."""
    p = (sum(shares) * total + 0.5) / (len(shares) * total + 1)
    return variance(shares) * total / (p * (1 - p))
