"""What the choice of its tuned setting adds to the error of an arm's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, log, nan, sqrt
from statistics import fmean

from harness.analysis.arms.arm import Arm, ChoiceOf
from harness.analysis.arms.measured import Measured
from harness.analysis.results.records import StudyRecord
from harness.inference.crossfit import cross_fitted, on_other_seeds
from harness.metrics import FVU


def with_choice_errors(study: StudyRecord, arms: Sequence[Arm]) -> list[Arm]:
    """The arms, each with the error of its choice, from the FVU of its settings and its variance."""
    if not study.tuned:
        return list(arms)
    variances = Measured.of(study, arms, FVU).estimates.spreads.variances
    return [
        replace(arm, choice_of=_choice_of(study, arm, float(variance)))
        for arm, variance in zip(arms, variances, strict=True)
    ]


def _choice_of(study: StudyRecord, arm: Arm, variance: float) -> ChoiceOf | None:
    """None where nothing was chosen, or where one seed chose for itself, which has no interval."""
    searched = arm.searched(study)
    settings, seeds = arm.compared(searched)
    means = []
    for setting in settings:
        figures = arm.figures(setting, FVU.name)
        values = [figures[seed] for seed in seeds if figures.get(seed, 0.0) > 0]
        means.append(fmean(map(log, values)) if values else nan)
    if len(settings) < 2 or variance <= 0 or not all(map(isfinite, means)):
        return None
    gaps = [(mean - min(means)) / sqrt(variance) for mean in means]
    if arm.choice.selection == "on other seeds":
        return ChoiceOf(tuple(settings), on_other_seeds(gaps, len(seeds)))
    if arm.choice.selection == "cross-fitted":
        return ChoiceOf(tuple(settings), cross_fitted(gaps, len(seeds)))
    return None
