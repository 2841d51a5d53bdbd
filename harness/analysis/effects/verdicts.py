"""What was shown of each change: lower, higher, equal within a margin, or not decided yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.arms.measured import Measured, alpha_of
from harness.analysis.results.records import StudyRecord
from harness.inference.contrast import Contrast
from harness.inference.family import holm
from harness.inference.sample_size import seeds_needed
from harness.metrics import Metric

UNDECIDED, NO_INTERVAL = "undecided", "no interval"


@dataclass(frozen=True)
class Change:
    """One comparison by one outcome.

    contrast: on the scale of comparison, None without an interval. seeds: the fewest that one of its arms has.
    resolution: the smallest contrast that figures can show. same: whether both sides are equal to within it at
    every seed. columns: of the effects table, without those of the verdict.
    """

    measured: Measured
    contrast: Contrast | None
    seeds: int
    resolution: float
    same: bool
    columns: Mapping[str, Any]

    def p_value(self) -> float | None:
        """That it is 0; a contrast below the resolution is no evidence of a difference."""
        if self.contrast is None:
            return None
        return 1.0 if abs(self.contrast.value) <= self.resolution * (1 + 1e-6) else self.contrast.p_value()

    def margins(self, indifference: float | None) -> tuple[float, float]:
        """Within these a contrast does not matter to the study, or cannot be told from 0."""
        if indifference is None:
            return -self.resolution, self.resolution
        return self.measured.unchanged(-indifference), self.measured.unchanged(indifference)

    def p_equivalent(self, indifference: float | None) -> float | None:
        """That it is not within the margins."""
        return None if self.contrast is None else self.contrast.p_equivalent(*self.margins(indifference))


def judged(study: StudyRecord, outcome: Metric, family: Sequence[Change]) -> list[dict[str, Any]]:
    """The columns of p-values, verdict and seeds needed of each of a family of comparisons by one outcome.

    Both tests, of a difference and of equality, keep the family's error rate by the method of Holm. A change that
    is both significant and within the margin of indifference is called equal: that is what the margin is for.
    """
    alpha = alpha_of(study)
    margin = study.indifference.get(outcome.short)
    p_values = [change.p_value() for change in family]
    different, equal = _holm(p_values), _holm([change.p_equivalent(margin) for change in family])
    verdicts = [
        _verdict(change, margin, p, p_equal, alpha)
        for change, p, p_equal in zip(family, different, equal, strict=True)
    ]
    undecided = verdicts.count(UNDECIDED)
    return [
        {
            f"{outcome.short}_p": p,
            f"{outcome.short}_p_holm": p_holm,
            outcome.verdict: verdict,
            f"{outcome.short}_seeds_needed": _needed(change, margin, alpha / undecided)
            if verdict == UNDECIDED
            else None,
        }
        for change, p, p_holm, verdict in zip(family, p_values, different, verdicts, strict=True)
    ]


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def _verdict(change: Change, margin: float | None, p: float | None, p_equal: float | None, alpha: float) -> str:
    if change.contrast is None or p is None or p_equal is None:
        return NO_INTERVAL
    if change.same:
        return f"equal within {_amount(change, change.measured.changed(change.resolution))}"
    if p_equal <= alpha:
        return f"equal within {_amount(change, margin or change.measured.changed(change.resolution))}"
    if p <= alpha:
        return "higher" if change.contrast.value > 0 else "lower"
    return UNDECIDED


def _amount(change: Change, value: float) -> str:
    """As in `2 %` or `0.1 points`."""
    return f"{value:.2g} {change.measured.metric.change_unit}".strip()


def _needed(change: Change, margin: float | None, alpha: float) -> int | None:
    """Seeds in each arm that would show the estimated contrast, or that it is within the margin: the fewer.

    alpha: of the first step of Holm among those that are undecided.
    """
    contrast = change.contrast
    assert contrast is not None
    low, high = change.margins(margin)
    distances = {abs(contrast.value): alpha / 2, min(contrast.value - low, high - contrast.value): alpha}
    options = [
        seeds_needed(distance, contrast.seed_variance, contrast.df, change.seeds, tail)
        for distance, tail in distances.items()
    ]
    return min((n for n in options if n is not None), default=None)
