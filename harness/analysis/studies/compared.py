"""Results of several studies side by side: the same arms, the same cells, verdicts that agree or do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.analysis.results.files import no_curves, read_cells, read_study
from harness.analysis.results.levels import Key, Level, levels_in
from harness.analysis.results.records import CellRecord, StudyRecord
from harness.analysis.studies.reruns import Reruns, reruns
from harness.analysis.studies.same_recipe import arm_identity
from harness.analysis.tables import tables_of
from harness.metrics import Metric, compared, metrics_at

Row = dict[str, Any]

COMPARED = ("axis", "level", "reference", "kind", "holding")  # what a row of the effects table is of


@dataclass(frozen=True)
class Result:
    """The results of one study. `name`: the study's, with a number where others have the same name."""

    name: str
    folder: Path
    study: StudyRecord
    cells: list[CellRecord]
    arms: list[Row]
    effects: list[Row]
    reported: frozenset[str]  # cells that arms' figures are means over

    @cached_property
    def by_id(self) -> dict[str, CellRecord]:
        return {cell.cell: cell for cell in self.cells}

    def key(self, cell: CellRecord) -> tuple[Key, Key, int]:
        """What a cell is within its study."""
        return self.study.key(cell.arm), self.study.setting(cell.tuned), cell.seed

    def tried(self, levels: dict[str, Level]) -> set[Key]:
        """The tuned settings of an arm."""
        arm = self.study.key(levels)
        return {self.study.setting(cell.tuned) for cell in self.cells if self.study.key(cell.arm) == arm}

    @cached_property
    def by_key(self) -> dict[tuple[Key, Key, int], CellRecord]:
        return {self.key(cell): cell for cell in self.cells}


@dataclass(frozen=True)
class SharedArm:
    """How many cells two arms of two results share; `reported`: of these, in the figures of both."""

    arms: tuple[str, str]
    cells: int
    reported: int


@dataclass(frozen=True)
class Verdicts:
    """Rows of one kind of the effects table that both results have, and where a verdict differs."""

    kind: str
    agree: int
    differ: list[tuple[Metric, Row, Row]]

    @property
    def opposite(self) -> int:
        """How often one result says lower and the other one higher."""
        said = [{row[metric.verdict] for row in rows} for metric, *rows in self.differ]
        return sum(verdicts == {"lower", "higher"} for verdicts in said)


@dataclass(frozen=True)
class Both:
    """Two results: the cells that are the same, by arms; if they are of one study, their verdicts, too.

    reruns: cells that both trained; None if they have none in common.
    """

    first: Result
    second: Result
    shared: list[SharedArm]
    reruns: Reruns | None
    verdicts: list[Verdicts]

    @property
    def one_study(self) -> bool:
        return self.first.study.name == self.second.study.name


def read_results(folders: Sequence[Path]) -> list[Result]:
    """Read the records of each folder and make their tables anew, so that all follow the same rules.

    Raises UserError where one lacks its records, or they are malformed.
    """
    studies = [read_study(folder) for folder in folders]
    names = Counter(study.name for study in studies)
    found = []
    numbers: Counter[str] = Counter()
    for folder, study in zip(folders, studies, strict=True):
        numbers[study.name] += 1
        cells = read_cells(folder, study)
        tables = tables_of(study, cells, no_curves())
        name = study.name if names[study.name] == 1 else f"{study.name} ({numbers[study.name]})"
        reported = frozenset(tables["seeds"]["cell"].drop_nulls())
        found.append(
            Result(name, folder, study, cells, tables["arms"].to_dicts(), tables["effects"].to_dicts(), reported)
        )
    return found


def same_arms(results: Sequence[Result]) -> list[list[tuple[Result, Row]]]:
    """The arms of all results in groups that train the same recipe on the same activations, in order."""
    groups: dict[str, list[tuple[Result, Row]]] = {}
    for result in results:
        for arm in result.arms:
            levels = levels_in(arm, result.study.axes)
            identity = arm_identity(result.study, levels, searched=len(result.tried(levels)) > 1)
            groups.setdefault(identity, []).append((result, arm))
    return list(groups.values())


def each_two(results: Sequence[Result]) -> list[Both]:
    """What any two of the results have in common."""
    return [_both(first, second) for first, second in combinations(results, 2)]


def _both(first: Result, second: Result) -> Both:
    one_study = first.study.name == second.study.name
    same = [(first.by_id[cell], second.by_id[cell]) for cell in first.by_id if cell in second.by_id]
    matched = same
    if one_study:  # on another machine its activations, and so the cells' identities, may differ
        known = {cell.cell for cell, _ in same}
        keys = [key for key, cell in first.by_key.items() if key in second.by_key and cell.cell not in known]
        matched = [*same, *((first.by_key[key], second.by_key[key]) for key in keys)]
    verdicts = list(_verdicts(first, second)) if one_study else []
    return Both(first, second, _by_arm(first, second, same), reruns(first, second, matched), verdicts)


def _by_arm(first: Result, second: Result, same: list[tuple[CellRecord, CellRecord]]) -> list[SharedArm]:
    counts: dict[tuple[str, str], list[int]] = {}
    labels = [
        {result.study.key(levels_in(arm, result.study.compared)): str(arm["arm"]) for arm in result.arms}
        for result in (first, second)
    ]
    for one, other in same:
        arms = labels[0][first.study.key(one.arm)], labels[1][second.study.key(other.arm)]
        both_reported = one.cell in first.reported and other.cell in second.reported
        count = counts.setdefault(arms, [0, 0])
        count[0], count[1] = count[0] + 1, count[1] + both_reported
    return [SharedArm(arms, *count) for arms, count in counts.items()]


def _verdicts(first: Result, second: Result) -> Iterator[Verdicts]:
    """For each kind of comparison: rows that both have, outcome by outcome; a mean over one pair is that pair."""
    theirs = {_compared(row): row for row in second.effects}
    both = [(row, theirs[_compared(row)]) for row in first.effects if _compared(row) in theirs]
    both = [rows for rows in both if rows[0]["kind"] != "marginal" or rows[0]["pairs"] != 1]
    for kind in dict.fromkeys(row["kind"] for row, _ in both):
        found = [
            (metric, row, other)
            for row, other in both
            for metric in compared(metrics_at("final"))
            if row["kind"] == kind and metric.verdict in row and metric.verdict in other
        ]
        differ = [(m, row, other) for m, row, other in found if row[m.verdict] != other[m.verdict]]
        yield Verdicts(kind, len(found) - len(differ), differ)


def _compared(row: Row) -> tuple[Any, ...]:
    """What a row of the effects table is of, with the tuned values where it states any."""
    return tuple(value for name, value in row.items() if name in COMPARED or name.startswith("axis_"))
