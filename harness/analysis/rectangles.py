"""The complete rectangles of a grid: levels of two axes of which every combination is an arm."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from harness.analysis.arms import Arm
from harness.analysis.levels import Level
from harness.analysis.records import StudyRecord
from harness.study.labels import show


@dataclass(frozen=True)
class Rectangle:
    """Every level of `rows` with every level of `columns`, all other axes alike. The first ones are references.

    `axes`: of the rows, of the columns. `arms[row][column]`: places in the list of arms. `holding`: the levels of
    the other axes in words.
    """

    axes: tuple[str, str]
    rows: tuple[Level, ...]
    columns: tuple[Level, ...]
    arms: tuple[tuple[int, ...], ...]
    holding: str

    @property
    def text(self) -> str:
        """As in `dense 2-2, sparse 3 × 0, 0.1`."""
        return " × ".join(", ".join(show(level) for level in levels) for levels in (self.rows, self.columns))

    def turned(self) -> Rectangle:
        """The same with its axes in the other order."""
        arms = tuple(zip(*self.arms, strict=True))
        return Rectangle(self.axes[::-1], self.columns, self.rows, arms, self.holding)


def rectangles(study: StudyRecord, arms: Sequence[Arm]) -> Iterator[Rectangle]:
    """For every two axes, at each combination of the other ones: the rectangles that no level could be added to.

    Every two levels of the first axis that share two or more of the second are in one of them, so no two-by-two
    comparison that the grid allows is missed, and there are no more rectangles than such pairs of levels.
    """
    for axes in combinations(study.compared, 2):
        others = [axis for axis in study.compared if axis not in axes]
        contexts: dict[tuple[Level, ...], dict[tuple[Level, ...], int]] = {}
        for place, arm in enumerate(arms):
            if all(_exists(study, axis, arm.levels[axis]) for axis in axes):
                here = contexts.setdefault(tuple(arm.levels[axis] for axis in others), {})
                here[tuple(arm.levels[axis] for axis in axes)] = place
        varying = [axis for axis in others if len(study.axes[axis]) > 1]
        for context, places in contexts.items():
            levels = dict(zip(others, context, strict=True))
            holding = study.describe({axis: levels[axis] for axis in varying})
            for rows, columns in _largest(study, axes, places):
                found = tuple(tuple(places[row, column] for column in columns) for row in rows)
                yield Rectangle(axes, rows, columns, found, holding)


def _largest(
    study: StudyRecord, axes: tuple[str, str], arms: Collection[tuple[Level, ...]]
) -> Iterator[tuple[tuple[Level, ...], tuple[Level, ...]]]:
    """Levels of both axes, at least two of each."""
    shared: dict[Level, set[Level]] = {}
    for row, column in arms:
        shared.setdefault(row, set()).add(column)
    first, second = (_reference_first(study, axis) for axis in axes)
    seen = []
    for one, other in combinations([level for level in first if level in shared], 2):
        common = shared[one] & shared[other]
        if len(common) > 1 and common not in seen:
            seen.append(common)
            rows = tuple(level for level in first if common <= shared.get(level, set()))
            yield rows, tuple(level for level in second if level in common)


def _reference_first(study: StudyRecord, axis: str) -> list[Level]:
    reference = study.reference(axis)
    return sorted(study.axes[axis], key=lambda level: level != reference)


def _exists(study: StudyRecord, axis: str, level: Level) -> bool:
    """Whether an arm with this level has the axis: None is a setting that is off, or an axis that is not there."""
    return level is not None or None in study.axes[axis]
