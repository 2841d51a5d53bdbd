"""The complete rectangles of a grid: levels of two axes of which every combination is an arm."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from harness.analysis.arms.arm import Arm
from harness.analysis.results.levels import Level
from harness.analysis.results.records import StudyRecord
from harness.analysis.sentences.text import listed
from harness.study.labels import show

Sides: TypeAlias = tuple[tuple[Level, ...], tuple[Level, ...]]  # levels of both axes


@dataclass(frozen=True)
class Rectangle:
    """Every level of `rows` with every level of `columns`. The first ones are references.

    `axes`: of the rows, of the columns. `arms[row][column]`: places in the list of arms, one for each setting of
    the other axes at which the grid has this rectangle. `holding`: that setting in words, or how many they are.
    """

    axes: tuple[str, str]
    rows: tuple[Level, ...]
    columns: tuple[Level, ...]
    arms: tuple[tuple[tuple[int, ...], ...], ...]
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
    """For every two axes the rectangles of arms with a result that no level could be added to.

    Every two levels of the first axis that share two or more of the second are in one of them, so no two-by-two
    comparison that the grid allows is missed, and there are no more rectangles than such pairs of levels at each
    combination of the other axes. Those that are the same at several combinations are one.
    """
    for axes in combinations(study.compared, 2):
        others = [axis for axis in study.compared if axis not in axes and len(study.axes[axis]) > 1]
        contexts: dict[tuple[Level, ...], dict[tuple[Level, ...], int]] = {}
        for place, arm in enumerate(arms):
            if arm.finished() and all(_exists(study, axis, arm.levels[axis]) for axis in axes):
                here = contexts.setdefault(tuple(arm.levels[axis] for axis in others), {})
                here[tuple(arm.levels[axis] for axis in axes)] = place
        where: dict[Sides, list[tuple[Level, ...]]] = {}
        for context, places in contexts.items():
            for sides in _largest(study, axes, places):
                where.setdefault(sides, []).append(context)
        for (rows, columns), found in where.items():
            named = study.describe(dict(zip(others, found[0], strict=True)))
            holding = named if len(found) == 1 else f"mean over {len(found)} settings of {listed(others)}"
            places_of = (
                tuple(tuple(contexts[c][row, column] for c in found) for column in columns) for row in rows
            )
            yield Rectangle(axes, rows, columns, tuple(places_of), holding)


def _largest(study: StudyRecord, axes: tuple[str, str], arms: Collection[tuple[Level, ...]]) -> Iterator[Sides]:
    """At least two levels of both axes."""
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
