"""Comparisons of a full recipe with itself minus one component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.analysis.results.levels import Level
from harness.analysis.results.records import StudyRecord

if TYPE_CHECKING:
    from harness.analysis.arms.arm import Arm


def minus_one(study: StudyRecord, arms: Sequence[Arm], axis: str, level: Level) -> Iterator[tuple[str, Arm, Arm]]:
    """What is held, the arm that has this axis at `level`, and the full recipe; none where one of them is missing.

    Axes that depend on this one are gone in the arm, too: they belong to what is left out.
    """
    full = next((arm for arm in arms if study.left_out(arm.levels) is None), None)
    if full is None:
        return
    for arm in arms:
        if study.left_out(arm.levels) == axis and arm.levels[axis] == level:
            others = [a for a in study.compared if a != axis and arm.levels[a] != full.levels[a]]
            gone = study.describe({other: full.levels[other] for other in others})
            yield f"full recipe, also without {gone}" if gone else "full recipe", arm, full
