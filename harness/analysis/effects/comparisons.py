"""What a level of an axis does: differences between arms that are equal in everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.arms.choosing import with_choice_errors
from harness.analysis.arms.measured import Measured, Weights
from harness.analysis.arms.statistics import Interval
from harness.analysis.effects.leave_one_out import minus_one
from harness.analysis.effects.main_effects import MODELS, MainEffect, main_effects
from harness.analysis.effects.verdicts import Change, judged
from harness.analysis.results.levels import Key, Level, columns
from harness.analysis.results.records import StudyRecord
from harness.metrics import FVU, L0, Metric
from harness.study.labels import show


@dataclass(frozen=True)
class Pair:
    """Two arms that differ in one axis only."""

    holding: str
    arm: Arm
    reference: Arm

    @property
    def look(self) -> int:
        """The number of seeds that both have: that of the look at which one of them stopped, or of the last."""
        return min(len(self.arm.seeds), len(self.reference.seeds))


@dataclass(frozen=True)
class Comparison:
    """A row of the effects table before it is judged beside the others: its columns, and its change by outcome."""

    row: dict[str, Any]
    changes: Mapping[Metric, Change]


def effect_rows(study: StudyRecord, arms: Sequence[Arm], outcomes: Sequence[Metric]) -> list[dict[str, Any]]:
    """The effects table: for each level of each axis a marginal row, then one row a pair of arms.

    Arms are compared as independent samples, each with all of its seeds; where a study looks at its seeds several
    times, and one of two arms stopped at an earlier look, both are compared as they were then. A marginal row
    averages over the pairs; pairs in which an arm has no result are left out of it and counted in `pairs` of the
    pair rows only.
    Of a fraction or a sample there are marginal rows alone, without pairs: main effects, from all arms together.
    """
    return judged_rows(study, compare(study, arms, outcomes), outcomes)


def compare(
    study: StudyRecord,
    arms: Sequence[Arm],
    outcomes: Sequence[Metric],
    kinds: Sequence[str] = ("marginal", "pair"),
    setting: Key | None = None,
) -> list[Comparison]:
    """The comparisons of `arms`, over which variances are moderated; see `effect_rows`.

    kinds: names of the marginal rows and of the rows of pairs; without the first there are no marginal ones.
    setting: the tuned values that all `arms` are at, where they are compared at equal ones.
    """
    *marginal, pairwise = kinds
    compared = _Compared(study, arms, outcomes, setting or (None,) * len(study.tuned))
    if study.design in MODELS:
        return [compared.main_effect(one, kind) for kind in marginal for one in main_effects(study, arms)]
    earlier: dict[int, _Compared] = {}
    found = []
    for axis, level in compared_levels(study):
        pairs = list(pairs_of(study, arms, axis, level))
        usable = [pair for pair in pairs if pair.arm.values(FVU.name) and pair.reference.values(FVU.name)]
        for kind in marginal if usable else ():
            found.append(compared.over(usable, names(study, axis, level, kind, len(usable))))
        for pair in pairs:
            at = compared
            if study.looks and (look := pair.look) < max(len(arm.seeds) for arm in (pair.arm, pair.reference)):
                if look not in earlier:
                    earlier[look] = compared.at_look(study, look)
                at = earlier[look]
            found.append(at.over([pair], names(study, axis, level, pairwise, 1, pair.holding)))
    return found


def judged_rows(
    study: StudyRecord, comparisons: Sequence[Comparison], outcomes: Sequence[Metric]
) -> list[dict[str, Any]]:
    """The rows with their verdicts: the comparisons of one kind are one family in each outcome."""
    verdicts: dict[tuple[int, Metric], dict[str, Any]] = {}
    for kind in dict.fromkeys(comparison.row["kind"] for comparison in comparisons):
        places = [place for place, one in enumerate(comparisons) if one.row["kind"] == kind]
        for outcome in outcomes:
            family = judged(study, outcome, [comparisons[place].changes[outcome] for place in places])
            verdicts |= {(place, outcome): found for place, found in zip(places, family, strict=True)}
    rows = []
    for place, comparison in enumerate(comparisons):
        row = dict(comparison.row)
        l0 = {name: row.pop(name) for name in (f"{L0.name}_level", f"{L0.name}_reference")}
        for outcome in outcomes:
            row |= {**comparison.changes[outcome].columns, **verdicts[place, outcome]}
        rows.append(row | l0)
    return rows


def compared_levels(study: StudyRecord) -> Iterator[tuple[str, Level]]:
    """Each axis with each of its levels but the reference, in the order of the study file."""
    for axis in study.compared:
        for level in study.axes[axis]:
            if level != study.reference(axis):
                yield axis, level


def pairs_of(study: StudyRecord, arms: Sequence[Arm], axis: str, level: Level) -> Iterator[Pair]:
    """Every arm at this level that has a counterpart at the reference, in the order of the arms."""
    if study.design == "leave_one_out":
        yield from (Pair(*pair) for pair in minus_one(study, arms, axis, level))
        return

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


class _Compared:
    """The arms of one comparison, measured by each outcome."""

    def __init__(self, study: StudyRecord, arms: Sequence[Arm], outcomes: Sequence[Metric], setting: Key) -> None:
        self.study = study
        self.arms = arms
        self.places = {arm.label: place for place, arm in enumerate(arms)}
        self.measured = {
            metric: Measured.of(study, arms, metric) for metric in dict.fromkeys((*outcomes, FVU, L0))
        }
        self.outcomes = outcomes
        self.tuned = setting
        self.setting = columns(dict(zip(study.tuned, setting, strict=True)))

    def at_look(self, study: StudyRecord, look: int) -> _Compared:
        """The same arms as they were with the first `look` seeds."""
        arms = with_choice_errors(study, [arm.at(study, study.seeds[:look]) for arm in self.arms])
        return _Compared(study, arms, self.outcomes, self.tuned)

    def over(self, pairs: Sequence[Pair], said: dict[str, Any]) -> Comparison:
        """The mean difference over `pairs`."""
        arms = [self.places[pair.arm.label] for pair in pairs]
        references = [self.places[pair.reference.label] for pair in pairs]
        weights: dict[int, float] = {}
        for side, sign in ((arms, 1), (references, -1)):
            for arm in side:
                weights[arm] = weights.get(arm, 0.0) + sign / len(pairs)
        return self._comparison(said, weights, arms, references, paired=True)

    def main_effect(self, effect: MainEffect, kind: str) -> Comparison:
        """An effect in a fraction or a sample."""
        said = names(self.study, effect.axis, effect.level, kind, 0, effect.holding)
        return self._comparison(said, effect.weights, effect.arms, effect.references, paired=False)

    def _comparison(
        self, said: dict[str, Any], weights: Weights, arms: list[int], references: list[int], *, paired: bool
    ) -> Comparison:
        row = said | self.setting | {"n": self._seeds(FVU, arms), "n_reference": self._seeds(FVU, references)}
        row |= _levels(self.measured[L0], arms, references)
        changes = {one: self._change(one, weights, arms, references, paired) for one in self.outcomes}
        return Comparison(row, changes)

    def _seeds(self, metric: Metric, arms: Sequence[int]) -> int:
        """The fewest that one of these arms has."""
        return min(len(self.measured[metric].values[arm]) for arm in arms)

    def _change(
        self, outcome: Metric, weights: Weights, arms: list[int], references: list[int], paired: bool
    ) -> Change:
        measured = self.measured[outcome]
        value, contrast = measured.value(weights), measured.contrast(weights)
        found: dict[str, Any] = {}
        if outcome.change == "percent":
            found |= _levels(measured, arms, references)
            difference = measured.difference(weights)
            mean = measured.value(weights, plain=True)
            ends = difference.interval(measured.confidence) if difference is not None else None
            found |= _interval_columns(f"{outcome.short}_difference", mean, ends)
        ends = measured.ends(contrast) if contrast is not None else None
        found |= _interval_columns(outcome.effect, None if value is None else measured.changed(value), ends)
        same = paired and all(measured.same(*pair) for pair in zip(arms, references, strict=True))
        both = [*arms, *references]
        return Change(measured, contrast, self._seeds(outcome, both), measured.resolution(both), same, found)


def _levels(measured: Measured, *sides: list[int]) -> dict[str, float | None]:
    """The means of both sides."""
    means = [[measured.mean(arm) for arm in side] for side in sides]
    ends = (f"{measured.metric.short}_level", f"{measured.metric.short}_reference")
    return {
        name: None if None in side else fmean(mean for mean in side if mean is not None)
        for name, side in zip(ends, means, strict=True)
    }


def _interval_columns(name: str, mean: float | None, ends: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = ends if ends is not None else (None, None)
    return interval_columns(name, None if mean is None else Interval(mean, low, high, 0))
