"""One metric of all arms of a study: estimated on the scale that suits it, shown in the tables' units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

from harness.analysis.arms.statistics import Interval
from harness.analysis.results.records import StudyRecord
from harness.inference.constants import ALPHA
from harness.inference.contrast import Contrast
from harness.inference.crossfit import ChoiceError
from harness.inference.estimates import Estimates, Sample, estimates
from harness.inference.looks import level
from harness.inference.means import Estimate, Positive
from harness.inference.pairs import pseudo_values
from harness.inference.spread import variance
from harness.metrics import DEAD, FVU, Metric

if TYPE_CHECKING:
    from harness.analysis.arms.arm import Arm

Figures = Mapping[int, float]  # by seed
Weights = Mapping[int, float]  # of arms, by their place; they sum to 0

LIKELY = 0.01  # a setting that is chosen more rarely has no part in an arm's figure
LAST_BITS = 1e-6  # relative difference of two figures that is rounding: they are sums of float32


@dataclass(frozen=True)
class Measured:
    """`values`: for each arm its figures by seed, in the stored unit. `totals`: of what count each is a share.

    Figures that are means over pairs of seeds come as pseudo-values, with the same mean.
    `at`: for each arm its figures at each tuned setting, and `choices`: the error of its choice between them.
    """

    metric: Metric
    confidence: float
    values: tuple[Figures, ...]
    totals: tuple[float | None, ...]
    reported_at: tuple[list[Figures], ...]
    choices: tuple[tuple[ChoiceError, list[Figures]] | None, ...]

    @classmethod
    def of(cls, study: StudyRecord, arms: Sequence[Arm], metric: Metric) -> Measured:
        """The figures of finished seeds."""
        counted = metric.name.startswith(DEAD.name)
        return cls(
            metric,
            1 - alpha_of(study),
            tuple(_values(arm, metric) for arm in arms),
            tuple(_latents(study, arm) if counted else None for arm in arms),
            tuple(_reported_at(study, arm, metric) for arm in arms),
            tuple(_choice(arm, metric) for arm in arms),
        )

    @property
    def by_ratio(self) -> bool:
        """Whether arms are compared by ratios, hence on the scale of logarithms."""
        metric = self.metric
        return metric.change == "percent" or (metric.change is None and metric.bounds == (0, None))

    def compared(self, figures: Figures) -> list[float]:
        """Figures on the scale of comparison; none at all where one of them has no logarithm."""
        values = list(figures.values())
        if not self.by_ratio:
            return values
        return [math.log(value) for value in values] if all(value > 0 for value in values) else []

    @cached_property
    def estimates(self) -> Estimates:
        return estimates([self._sample(arm) for arm in range(len(self.values))])

    def _sample(self, arm: int) -> Sample:
        values, total = self.compared(self.values[arm]), self.totals[arm]
        if (choice := self.choices[arm]) is None:
            return Sample(values, total=total)
        error, at = choice
        within = [variance(some) for one in self.reported_at[arm] if len(some := self.compared(one)) > 1]
        spread = fmean(within) if within else None
        if self.metric.name == FVU.name and error.inflation != 1:  # by which the settings were chosen
            return Sample(values, spread, inflation=error.inflation, total=total)
        means = [fmean(some) for one in at if (some := self.compared(one))]
        if len(means) < len(at):
            return Sample(values, spread, total=total)
        open_to = [mean for mean, share in zip(means, error.shares, strict=True) if share >= LIKELY]
        return Sample(values, spread, choice=error.variance(means), settings=open_to, total=total)

    def mean(self, arm: int) -> float | None:
        """The plain mean over the arm's seeds."""
        return fmean(values.values()) if (values := self.values[arm]) else None

    def interval(self, arm: int) -> Interval | None:
        """The plain mean of an arm with its interval, which stays within what the metric can be."""
        if (mean := self.mean(arm)) is None:
            return None
        found = self._estimate(arm)
        if found is None:
            return Interval(mean, None, None, len(self.values[arm]))
        ends = found.bounds((1 - self.confidence) / 2, self.estimates.df({arm: 1.0}))
        low, high = (self._possible(end) for end in ends)
        return Interval(mean, low, high, len(self.values[arm]))

    def standard_error(self, arm: int) -> float | None:
        """Of an arm's mean, in the stored unit; None with one seed."""
        if (mean := self.mean(arm)) is None or self.estimates.means[arm] is None:
            return None
        error = math.sqrt(self.estimates.squared_errors[arm])
        return mean * error if self.by_ratio else error

    def _estimate(self, arm: int) -> Estimate | None:
        """In the stored unit."""
        found = self.estimates.means[arm]
        if found is None or not self.by_ratio:
            return found
        return Positive(fmean(self.values[arm].values()), math.sqrt(self.estimates.squared_errors[arm]))

    def _possible(self, value: float) -> float:
        low, high = self.metric.bounds
        value = value if low is None else max(float(low), value)
        return value if high is None else min(float(high), value)

    def contrast(self, weights: Weights) -> Contrast | None:
        """On the scale of comparison; None where an arm has fewer than two seeds, or no logarithm."""
        return self.estimates.contrast(weights)

    def difference(self, weights: Weights) -> Contrast | None:
        """Of plain means, in the stored unit."""
        contrast = self.contrast(weights)
        means = [self._estimate(arm) for arm in weights]
        if contrast is None:
            return None
        known = tuple(mean for mean in means if mean is not None)
        return Contrast(contrast.weights, known, contrast.df, contrast.seed_variance)

    def value(self, weights: Weights, *, plain: bool = False) -> float | None:
        """sum(weight · mean) of arms with any seed: on the scale of comparison, or in the stored unit."""
        sides = [self.values[arm] for arm in weights]
        figures = [list(side.values()) if plain else self.compared(side) for side in sides]
        if not all(figures):
            return None
        return math.fsum(weight * fmean(some) for weight, some in zip(weights.values(), figures, strict=True))

    def changed(self, value: float) -> float:
        """A contrast as the tables have it: in percent, or in points of the shown unit."""
        return 100 * math.expm1(value) if self.by_ratio else self.metric.scale * value

    def ends(self, contrast: Contrast) -> tuple[float, float]:
        """The interval of a contrast, as the tables have it."""
        low, high = contrast.interval(self.confidence)
        return self.changed(low), self.changed(high)

    def unchanged(self, change: float) -> float:
        """The contrast that `changed` shows as this: the other way round."""
        return math.log1p(change / 100) if self.by_ratio else change / self.metric.scale

    def resolution(self, arms: Sequence[int]) -> float:
        """The smallest contrast of these arms that their figures can show."""
        totals = [total for arm in arms if (total := self.totals[arm]) is not None]
        return 1 / min(totals) if totals else LAST_BITS

    def same(self, one: int, other: int) -> bool:
        """Whether two arms have the same figure, but for rounding, at each of the same two or more seeds."""
        values, others = self.values[one], self.values[other]
        if len(values) < 2 or values.keys() != others.keys():
            return False
        return all(abs(values[seed] - others[seed]) <= LAST_BITS * abs(others[seed]) for seed in values)


def alpha_of(study: StudyRecord) -> float:
    """The level of the study's tests and intervals: below 5 % where it looks at its seeds several times."""
    return level(study.looks) if study.looks else ALPHA


def confidence(study: StudyRecord) -> str:
    """That of the study's intervals in words, as in `95 %`."""
    return f"{100 * (1 - alpha_of(study)):.3g} %"


def _values(arm: Arm, metric: Metric) -> Figures:
    values = arm.values(metric.name)
    return pseudo_values(values) if metric.pairs else values


def _latents(study: StudyRecord, arm: Arm) -> float | None:
    """The latents of which an arm's dead ones are a share."""
    counts = [study.latents_at({**cell.arm, **cell.tuned}) for cell in arm.finished().values()]
    known = [count for count in counts if count is not None]
    return fmean(known) if known and len(known) == len(counts) else None


def _reported_at(study: StudyRecord, arm: Arm, metric: Metric) -> list[Figures]:
    """For each seed the figures of all reported seeds at the setting that it is reported at."""
    used = {setting: arm.figures(setting, metric.name) for setting in set(arm.choice.by_seed.values())}
    seeds = set(study.seeds)
    of_setting = {s: {seed: f for seed, f in figures.items() if seed in seeds} for s, figures in used.items()}
    return [of_setting[arm.choice.by_seed[seed]] for seed in arm.values(metric.name)]


def _choice(arm: Arm, metric: Metric) -> tuple[ChoiceError, list[Figures]] | None:
    if arm.choice_of is None or metric.pairs:  # settings that are not reported have no pairs
        return None
    return arm.choice_of.error, [arm.figures(setting, metric.name) for setting in arm.choice_of.settings]
