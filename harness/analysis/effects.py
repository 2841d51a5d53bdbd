"""What a level of an axis does: paired differences between arms that are equal in everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.analysis.arms import Arm, interval_columns
from harness.analysis.levels import Level
from harness.analysis.records import StudyRecord
from harness.analysis.statistics import Interval, mean_interval, seedwise_mean
from harness.metrics import FVU, L0, Metric
from harness.study.labels import show

Values = Mapping[int, float]


@dataclass(frozen=True)
class Pair:
    """Two arms that differ in one axis only."""

    holding: str
    arm: Arm
    reference: Arm

    def both(self, metric: str) -> tuple[Values, Values]:
        """A figure by seed, in the tables' unit, of the seeds that both have: arm, reference."""
        values, reference = self.arm.values(metric), self.reference.values(metric)
        common = sorted(values.keys() & reference.keys())
        return {seed: values[seed] for seed in common}, {seed: reference[seed] for seed in common}

    def changes(self, outcome: Metric) -> Values:
        """By seed: in percent of the reference, or in points of the shown unit.

        None at all in percent of a reference that is 0 in some seed: the other seeds alone would be another mean.
        """
        values, reference = self.both(outcome.name)
        if outcome.change == "percent":
            if 0 in reference.values():
                return {}
            return {seed: 100 * (values[seed] / reference[seed] - 1) for seed in values}
        return {seed: outcome.scale * values[seed] - outcome.scale * reference[seed] for seed in values}


def effect_rows(study: StudyRecord, arms: Sequence[Arm], outcomes: Sequence[Metric]) -> list[dict[str, Any]]:
    """The effects table: for each level of each axis a marginal row, then one row a pair of arms.

    A marginal row averages over the pairs seed by seed, and then over the seeds; pairs in which no seed has
    both results are left out of it and counted in `pairs` of the pair rows only.
    """
    rows = []
    for axis, level in compared_levels(study):
        pairs = list(pairs_of(study, arms, axis, level))
        usable = [pair for pair in pairs if pair.both(FVU.name)[0]]
        if usable:
            rows.append(names(study, axis, level, "marginal", len(usable)) | _figures(usable, outcomes))
        for pair in pairs:
            rows.append(names(study, axis, level, "pair", 1, pair.holding) | _figures([pair], outcomes))
    return rows


def compared_levels(study: StudyRecord) -> Iterator[tuple[str, Level]]:
    """Each axis with each of its levels but the reference, in the order of the study file."""
    for axis in study.compared:
        for level in study.axes[axis]:
            if level != study.reference(axis):
                yield axis, level


def pairs_of(study: StudyRecord, arms: Sequence[Arm], axis: str, level: Level) -> Iterator[Pair]:
    """Every arm at this level that has a counterpart at the reference, in the order of the arms."""

    def rest(arm: Arm) -> tuple[Level, ...]:
        return tuple(value for name, value in arm.levels.items() if name != axis)

    references = {rest(arm): arm for arm in arms if arm.levels[axis] == study.reference(axis)}
    paired = [arm for arm in arms if arm.levels[axis] == level and rest(arm) in references]
    for arm, holding in zip(paired, study.labels([arm.levels for arm in paired], without=axis), strict=True):
        yield Pair(holding, arm, references[rest(arm)])


def names(
    study: StudyRecord, axis: str, level: Level, kind: str, pairs: int, holding: str | None = None
) -> dict[str, Any]:
    """The columns that say what is compared."""
    compared = {"axis": axis, "level": show(level), "reference": show(study.reference(axis))}
    return compared | {"kind": kind, "holding": holding, "pairs": pairs}


def _figures(pairs: Sequence[Pair], outcomes: Sequence[Metric]) -> dict[str, Any]:
    """The changes of all outcomes: of one pair, or averaged seed by seed over several."""
    columns: dict[str, Any] = {"n": len(seedwise_mean([pair.both(FVU.name)[0] for pair in pairs]))}
    for outcome in outcomes:
        if outcome.change == "percent":
            columns |= _levels(pairs, outcome.name, outcome.short)
            columns |= _differences(pairs, outcome)
        change = _interval(seedwise_mean([pair.changes(outcome) for pair in pairs]))
        columns |= interval_columns(outcome.effect, change)
        columns[outcome.verdict] = change.verdict if change else "no interval"
    return columns | _levels(pairs, L0.name, L0.name)


def _levels(pairs: Sequence[Pair], metric: str, name: str) -> dict[str, float | None]:
    """The means of both sides, over the same seeds."""
    both = [pair.both(metric) for pair in pairs]
    values, reference = (seedwise_mean([sides[side] for sides in both]) for side in (0, 1))
    return {
        f"{name}_level": fmean(values.values()) if values else None,
        f"{name}_reference": fmean(reference.values()) if reference else None,
    }


def _differences(pairs: Sequence[Pair], outcome: Metric) -> dict[str, float | None]:
    """What a change in percent leaves open: the difference in the tables' unit."""
    both = [pair.both(outcome.name) for pair in pairs]
    differences = [{seed: own[seed] - other[seed] for seed in own} for own, other in both]
    return interval_columns(f"{outcome.short}_difference", _interval(seedwise_mean(differences)))


def _interval(values: Values) -> Interval | None:
    return mean_interval(list(values.values()))
