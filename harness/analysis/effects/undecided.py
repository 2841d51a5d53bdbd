"""The arms that a sweep goes on with after a planned look: those of undecided comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.analysis.arms.arm import Arm, collect_arms
from harness.analysis.arms.choosing import with_choice_errors
from harness.analysis.effects.comparisons import compared_levels, effect_rows, pairs_of
from harness.analysis.results.finite import finite_cell
from harness.analysis.results.levels import Level
from harness.analysis.results.records import CellRecord, StudyRecord
from harness.metrics import FVU, Metric, compared, metrics_at

UNDECIDED = ("undecided", "no interval")


def undecided_arms(study: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> set[tuple[Level, ...]]:
    """The levels of the arms that go on after a look.

    study, cells: what study.json and cells.jsonl hold, with the cells of that look.

    A comparison is decided when there is a verdict on every outcome that the study states an indifference of, or
    else on FVU. Arms that were not trained at all seeds of the look have stopped before.
    """
    record = StudyRecord.model_validate(study)
    records = [finite_cell(CellRecord.model_validate(cell)) for cell in cells]
    levels = {record.key(cell.arm): tuple(cell.arm.values()) for cell in records}
    found = set()
    arms = with_choice_errors(record, collect_arms(record, records))  # as the tables have it
    for pair_arms, row in _pairs(record, arms):
        there = all([*arm.choice.by_seed] == record.seeds for arm in pair_arms)
        if there and any(row[outcome.verdict] in UNDECIDED for outcome in _decisive(record)):
            found |= {levels[record.key(arm.levels)] for arm in pair_arms}
    return found


def _pairs(study: StudyRecord, arms: Sequence[Arm]) -> Iterator[tuple[tuple[Arm, Arm], Mapping[str, Any]]]:
    """Every pair of arms that the effects table compares, with its row."""
    pairs = [
        (pair.arm, pair.reference)
        for axis, level in compared_levels(study)
        for pair in pairs_of(study, arms, axis, level)
    ]
    rows = [row for row in effect_rows(study, arms, _decisive(study)) if row["kind"] == "pair"]
    return zip(pairs, rows, strict=True)


def _decisive(study: StudyRecord) -> list[Metric]:
    stated = [m for m in compared(metrics_at("final")) if study.indifference.keys() & {m.name, m.short}]
    return stated or [FVU]
