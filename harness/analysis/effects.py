"""What a level of an axis does: paired differences between arms that are equal in everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.analysis.arms import Arm, interval_columns
from harness.analysis.results import Level, Study, show
from harness.analysis.statistics import Interval, paired_interval, seedwise_mean

Values = Mapping[int, float]


@dataclass(frozen=True)
class Pair:
    """Two arms that differ in one axis only; the held-out figures of each by seed."""

    holding: str
    arm: Arm
    reference: Arm

    def fvu(self) -> tuple[Values, Values]:
        """FVU of the arm and of its reference."""
        return self.arm.values("fvu"), self.reference.values("fvu")

    def dead(self) -> tuple[Values, Values]:
        """Dead latents in percent of all latents."""
        return _percent(self.arm.values("dead_fraction")), _percent(self.reference.values("dead_fraction"))


def effect_rows(study: Study, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The effects table: for each level of each axis a marginal row, then one row a pair of arms.

    A marginal row averages over the pairs seed by seed, and then over the seeds; pairs in which no seed has
    both results are left out of it and counted in `pairs` of the pair rows only.
    """
    rows = []
    for axis in study.compared:
        for level in study.axes[axis]:
            if level == study.reference(axis):
                continue
            pairs = list(_pairs(study, arms, axis, level))
            usable = [pair for pair in pairs if _differences(*pair.fvu())]
            if usable:
                rows.append(_names(study, axis, level, "marginal", len(usable)) | _marginal(usable))
            for pair in pairs:
                rows.append(_names(study, axis, level, "pair", 1, pair.holding) | _single(pair))
    return rows


def _pairs(study: Study, arms: Sequence[Arm], axis: str, level: Level) -> Iterator[Pair]:
    def rest(arm: Arm) -> tuple[Level, ...]:
        return tuple(value for name, value in arm.levels.items() if name != axis)

    references = {rest(arm): arm for arm in arms if arm.levels[axis] == study.reference(axis)}
    for arm in arms:
        if arm.levels[axis] == level and rest(arm) in references:
            yield Pair(study.label(arm.levels, without=axis), arm, references[rest(arm)])


def _names(
    study: Study, axis: str, level: Level, kind: str, pairs: int, holding: str | None = None
) -> dict[str, Any]:
    names = {"axis": axis, "level": show(level), "reference": show(study.reference(axis))}
    return names | {"kind": kind, "holding": holding, "pairs": pairs}


def _single(pair: Pair) -> dict[str, Any]:
    values, reference = pair.fvu()
    common = sorted(values.keys() & reference.keys())
    return _figures(
        level=fmean(values[s] for s in common) if common else None,
        reference=fmean(reference[s] for s in common) if common else None,
        absolute=paired_interval(values, reference),
        percent=_interval(_relative(values, reference)),
        points=paired_interval(*pair.dead()),
    )


def _marginal(pairs: Sequence[Pair]) -> dict[str, Any]:
    absolute = seedwise_mean([_differences(*pair.fvu()) for pair in pairs])
    percent = seedwise_mean([_relative(*pair.fvu()) for pair in pairs])
    points = seedwise_mean([_differences(*pair.dead()) for pair in pairs])
    level = seedwise_mean([_where(pair.fvu()[0], absolute) for pair in pairs])
    reference = seedwise_mean([_where(pair.fvu()[1], absolute) for pair in pairs])
    return _figures(
        level=fmean(level.values()) if level else None,
        reference=fmean(reference.values()) if reference else None,
        absolute=_interval(absolute),
        percent=_interval(percent),
        points=_interval(points),
    )


def _figures(
    level: float | None,
    reference: float | None,
    absolute: Interval | None,
    percent: Interval | None,
    points: Interval | None,
) -> dict[str, Any]:
    return {
        "n": absolute.n if absolute else 0,
        "fvu_level": level,
        "fvu_reference": reference,
        **interval_columns("fvu_difference", absolute),
        **interval_columns("fvu_percent", percent),
        "fvu_verdict": percent.verdict if percent else "no interval",
        **interval_columns("dead_points", points),
        "dead_verdict": points.verdict if points else "no interval",
    }


def _interval(values: Values) -> Interval | None:
    return paired_interval(values, dict.fromkeys(values, 0.0))


def _differences(values: Values, reference: Values) -> dict[int, float]:
    return {seed: values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())}


def _relative(values: Values, reference: Values) -> dict[int, float]:
    common = sorted(values.keys() & reference.keys())
    return {seed: 100 * (values[seed] / reference[seed] - 1) for seed in common}


def _percent(values: Values) -> dict[int, float]:
    return {seed: 100 * value for seed, value in values.items()}


def _where(values: Values, seeds: Values) -> dict[int, float]:
    return {seed: values[seed] for seed in seeds}
