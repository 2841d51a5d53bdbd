"""The search inside each arm: every tuned setting, what it gave, and whether the best lies inside the list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.arms.statistics import mean_interval
from harness.analysis.results.levels import Key, Level, columns
from harness.analysis.results.records import StudyRecord


def tuning_rows(study: StudyRecord, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """One row an arm and tuned setting: held-out FVU over the seeds that it was searched on, how many of them were
    lost, how many reported seeds stand at it, and its edges."""
    if not study.tuned:
        return []
    return [_row(study, arm, setting) for arm in arms for setting in arm.settings]


def _row(study: StudyRecord, arm: Arm, setting: Key) -> dict[str, Any]:
    searched = arm.searched(study)
    cells = [cell for seed, cell in arm.settings[setting].items() if seed in searched]
    values = [cell.chosen_by for cell in cells if cell.chosen_by is not None]
    edges = _edges(study, arm, setting)
    return {
        "arm": arm.label,
        **columns(arm.levels),
        **columns(dict(zip(study.tuned, setting, strict=True))),
        **interval_columns("fvu", mean_interval(values)),
        "n": len(values),
        "lost": len(searched) - len(values),
        "chosen": setting == arm.choice.shown and arm.choice.selection != "unselected",
        "seeds_reported": sum(chosen == setting for chosen in arm.choice.by_seed.values()),
        "at_edge": bool(edges),
        "edges": ", ".join(f"{axis} {end}" for axis, end in edges.items()),
    }


def _edges(study: StudyRecord, arm: Arm, setting: Key) -> dict[str, str]:
    """The tuned axes on which the setting is the lowest or highest number that this arm was tried at."""
    edges = {}
    for place, axis in enumerate(study.tuned):
        # the arm's own list: a conditional list may be shorter than the axis
        tried = {other[place] for other in arm.settings}
        value = setting[place]
        if len(tried) > 1 and _is_number(value):
            numbers = [v for v in tried if isinstance(v, int | float)]
            if value in (min(numbers), max(numbers)):
                edges[axis] = "lowest" if value == min(numbers) else "highest"
    return edges


def _is_number(value: Level) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
