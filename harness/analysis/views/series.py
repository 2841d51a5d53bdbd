"""Levels that stand for numbers: an axis of numbers, or named settings that differ in one number only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from harness.analysis.results.levels import Level
from harness.analysis.results.records import StudyRecord
from harness.analysis.views.view import View
from harness.study.labels import show

FEWEST = 3  # numbers: two make no curve


@dataclass(frozen=True)
class Series:
    """Levels of an axis with their numbers, rising; None for one that is off.

    `field`: the recipe field that named settings differ in; None for an axis of numbers.
    """

    axis: str
    field: str | None
    numbers: dict[Level, float | None]

    @property
    def name(self) -> str:
        """What the numbers are of."""
        return self.axis if self.field is None else self.field

    def label(self, level: Level) -> str:
        """A level's number as text, or the word for one that has none."""
        number = self.numbers[level]
        return show(level if number is None else number)


def series(view: View) -> list[Series]:
    """The axes of numbers, and what named settings have of them, in the order of the study file."""
    found = []
    for axis in view.varying:
        numbers = _numbers(view.study, axis)
        if numbers is not None:
            found.append(Series(axis, None, numbers))
        else:
            found += list(_of_settings(view.study, axis))
    return found


def _numbers(study: StudyRecord, axis: str) -> dict[Level, float | None] | None:
    """Levels with their numbers, if all but at most one are; a mixed axis has texts in tables."""
    levels = study.axes[axis]
    known = {level: _number(level) for level in levels}
    off = [level for level in levels if known[level] is None]
    if len(off) > 1 or len(levels) < FEWEST or len(levels) - len(off) < FEWEST - 1:
        return None
    mixed = any(level is not None for level in off)
    return _sorted({str(level) if mixed else level: number for level, number in known.items()})


def _of_settings(study: StudyRecord, axis: str) -> Iterator[Series]:
    """A series for each recipe field that is alone in the settings of some levels, with the reference's value."""
    settings, reference = study.settings.get(axis, {}), study.reference(axis)
    fields = dict.fromkeys(field for bundle in settings.values() for field in bundle)
    for field in fields:
        same = {name: bundle[field] for name, bundle in settings.items() if list(bundle) == [field]}
        if not settings.get(str(reference), {}):
            same = {str(reference): study.recipe.get(field), **same}
        numbers: dict[Level, float | None] = {
            level: _number(value) for level, value in same.items() if value is None or _number(value) is not None
        }
        if len(set(numbers.values())) >= FEWEST:
            yield Series(axis, field, _sorted(numbers))


def _number(value: object) -> float | None:
    """The value as a number, if it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _sorted(numbers: dict[Level, float | None]) -> dict[Level, float | None]:
    return dict(sorted(numbers.items(), key=lambda item: -math.inf if item[1] is None else item[1]))
