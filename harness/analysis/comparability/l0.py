"""Whether FVU is compared at equal L0: a code with more active latents has a lower error for that alone.

Not every sparsifier holds k on held-out tokens: a threshold lets through what lies above it, and a token may have
fewer than k positive pre-activations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.analysis.results.levels import levels_in
from harness.analysis.results.records import StudyRecord

MOST_ACTIVE = 1.05  # times the cell's final L0: with more active latents an FVU is another matter
TOLERANCE = 0.01  # relative: within it two L0 count as equal

Row = dict[str, Any]


def unequal(study: StudyRecord, effect: Row) -> bool:
    """Whether the two sides of a row of the effects table differ in L0, though they were given the same k."""
    level, reference = effect["l0_level"], effect["l0_reference"]
    k, other = (study.value({effect["axis"]: effect[side]}, "k") for side in ("level", "reference"))
    return k == other and level is not None and reference is not None and _differ([level, reference])


def against(effect: Row) -> str:
    """As in `7.76 against 8.00`."""
    return f"{effect['l0_level']:.2f} against {effect['l0_reference']:.2f}"


def spread(study: StudyRecord, arms: Iterable[Row]) -> str:
    """The range of L0 in words, as in `7.76 to 8.00`, of arms that have the same k and differ; else empty."""
    groups: dict[Any, list[float]] = {}
    for arm in arms:
        if arm["l0"] is not None:
            groups.setdefault(study.value(levels_in(arm, study.axes), "k"), []).append(arm["l0"])
    unequal = [group for group in groups.values() if _differ(group)]
    return ", ".join(f"{min(group):.2f} to {max(group):.2f}" for group in unequal)


def _differ(values: Sequence[float]) -> bool:
    return max(values) > (1 + TOLERANCE) * min(values)
