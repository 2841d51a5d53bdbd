"""Each effect with something else held equal: tokens, training FLOPs, time, parameters, alive latents.

What an arm reaches with as many FLOPs or in as much time as another one is read from its curve, at a point before
the learning rates of *both* begin to fall: that fall lowers FVU, so the end of one curve must not be compared with
the middle of another. A row at equal tokens before the fall stands beside these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from harness.analysis.arms.arm import Arm
from harness.analysis.comparability.budgets import curves_by_cell
from harness.analysis.comparability.planes import FLIPS, HOLDS, NOT_SHOWN, ONLY_HERE, SHOWN
from harness.analysis.comparability.readings import SILENT as SILENT_NAME
from harness.analysis.comparability.readings import Reader, Reading
from harness.analysis.effects.comparisons import Comparison, compare, compared_levels, judged_rows, pairs_of
from harness.analysis.effects.main_effects import MODELS
from harness.analysis.results.levels import Level, column
from harness.analysis.results.records import StudyRecord
from harness.metrics import DEAD, FVU, SILENT, Metric
from harness.study.labels import show

Row = dict[str, Any]

SILENT_AT = replace(SILENT, name=SILENT_NAME)  # in training: not the dead latents of final figures
OUTCOMES = (FVU, DEAD, SILENT_AT)


def sense_rows(study: StudyRecord, arms: Sequence[Arm], curves: pl.DataFrame) -> list[Row]:
    """The senses table: for each pair of arms one row a sense, with the effects there or the `reason` for none.

    `fvu_against_tokens`, `dead_against_tokens`: what becomes of the verdict at the end of training, where tokens
    are equal: it holds, flips (lower is higher), is not shown here, or is shown here only. Before the end, dead
    latents are those that are silent in training (`silent_*`), compared with the same at the end.
    """
    if study.design in MODELS:  # there are no pairs of arms that differ in one axis alone
        return []
    reader = Reader(study, arms, curves_by_cell(curves))
    pairs = [
        list(reader.readings(axis, level, pair))
        for axis, level in compared_levels(study)
        for pair in pairs_of(study, arms, axis, level)
    ]
    effects = _effects(study, [reading for readings in pairs for reading in readings])
    columns = dict.fromkeys(name for row in effects.values() for name in row)
    return [row for readings in pairs for row in _rows(study, readings, effects, columns)]


def _effects(study: StudyRecord, readings: Sequence[Reading]) -> dict[int, Row]:
    """By id of the reading: its row as in the effects table. The comparisons in one sense are one family.

    What is equal at the end of training has the verdict at equal tokens, of which it is the same comparison.
    """
    groups: dict[tuple[Any, ...], list[Reading]] = {}
    for reading in readings:
        if not reading.reason:
            groups.setdefault(reading.group, []).append(reading)
    families: dict[str, dict[tuple[str, Level, str], Comparison]] = {}
    for members in groups.values():
        compared = _comparisons(study, members)
        for member in members:
            families.setdefault(member.family, {})[member.key] = compared[member.key]
    rows = {
        (name, key): row
        for name, family in families.items()
        for key, row in zip(family, judged_rows(study, list(family.values()), OUTCOMES), strict=True)
    }
    return {id(reading): rows[reading.family, reading.key] for reading in readings if not reading.reason}


def _comparisons(study: StudyRecord, members: Sequence[Reading]) -> dict[tuple[str, Level, str], Comparison]:
    """All comparisons of the arms of some readings, by their keys."""
    there = {arm.label: arm for member in members for arm in (member.pair.arm, member.pair.reference)}
    arms = list(there.values())
    keys = [
        (axis, level, pair.arm.label)
        for axis, level in compared_levels(study)
        for pair in pairs_of(study, arms, axis, level)
    ]
    return dict(zip(keys, compare(study, arms, OUTCOMES, ("pair",)), strict=True))


NAMES = ("axis", "level", "reference", "kind", "holding", "pairs")  # of the effects table


def _rows(
    study: StudyRecord, readings: Sequence[Reading], effects: dict[int, Row], columns: dict[str, None]
) -> list[Row]:
    first = effects.get(id(readings[0]), {})
    return [_row(study, reading, effects.get(id(reading), {}), first, columns) for reading in readings]


def _row(study: StudyRecord, reading: Reading, effect: Row, first: Row, columns: dict[str, None]) -> Row:
    own, other = reading.tokens
    tuned = {column(axis) for axis in study.tuned}  # empty: both arms stand at their best
    return {
        "axis": reading.axis,
        "level": show(reading.level),
        "reference": show(study.reference(reading.axis)),
        "arm": reading.pair.arm.label,
        "reference_arm": reading.pair.reference.label,
        "holding": reading.pair.holding,
        "sense": reading.sense,
        "at": reading.at,
        "budget": _float(reading.budget),
        "unit": reading.unit,
        "arm_tokens": _float(own),
        "reference_tokens": _float(other),
        "reason": reading.reason or ("" if effect.get(FVU.effect) is not None else "no seed has both results"),
        "fvu_against_tokens": _against(effect, first, FVU),
        "dead_against_tokens": _against(effect, first, DEAD) or _against(effect, first, SILENT_AT),
        **{name: effect.get(name) for name in columns if name not in NAMES and name not in tuned},
    }


def _float(value: float | None) -> float | None:
    """Counts too: a column has one type."""
    return None if value is None else float(value)


def _against(effect: Row, first: Row, outcome: Metric) -> str | None:
    """What becomes of the first verdict; None where one of both is missing."""
    here, there = effect.get(outcome.verdict), first.get(outcome.verdict)
    if here in (None, "no interval") or there in (None, "no interval"):
        return None
    if here in SHOWN and there in SHOWN:
        return HOLDS if here == there else FLIPS
    return NOT_SHOWN if there in SHOWN else ONLY_HERE if here in SHOWN else HOLDS
