"""Every arm at every tuned setting: FVU against what it costs, and which points are dominated by which.

A point *dominates* another one on a plane of FVU and a cost (dead latents, L0, FLOPs of training) where both its
means are at least as good, its L0 is no higher, since FVU falls as L0 rises, and that is beyond doubt: its
95 % interval of FVU lies wholly below the other's, and so does that of the dead latents. Where the study states a
margin of indifference, one of both may be worse by less than that. L0 and FLOPs count as equal within 1 % and need
no interval. Where two intervals of equal width do not overlap, their difference has p < 0.006. Without intervals
nothing is beyond doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.analysis.arms.arm import Arm, arm_rows
from harness.analysis.comparability.equal_settings import at_setting
from harness.analysis.comparability.l0 import TOLERANCE
from harness.analysis.comparability.planes import (
    DOMINATED,
    ON,
    PLANES,
    REPORTED,
    TUNING,
    UNSURE,
    Plane,
    point_name,
)
from harness.analysis.results.levels import Key, columns
from harness.analysis.results.records import StudyRecord
from harness.metrics import DEAD, FVU, L0, Metric, metrics_at

Row = dict[str, Any]

NAMES = (FVU.name, "nmse", DEAD.name, L0.name, "alive")
FIGURES = tuple(metric for metric in metrics_at("final") if metric.name in NAMES)


def frontier_rows(study: StudyRecord, arms: Sequence[Arm]) -> list[Row]:
    """One row an arm and setting: figures with intervals, which seeds they are of, and its place on each plane.

    `<plane>_place`: on the frontier (no other point of no higher L0 is as good in both means), dominated (by
    another one beyond doubt), or not separable (another one has better means, none beyond doubt); null without a
    result.
    `<plane>_dominated_by`: of those that dominate it the one with the lowest FVU, in words; `<plane>_dominating`:
    how many there are.
    """
    points = [_point(study, arm, setting) for arm in arms for setting in arm.settings]
    figures = arm_rows(study, [arm for _, arm in points], FIGURES)
    rows = [_row(study, names, arm, row) for (names, arm), row in zip(points, figures, strict=True)]
    for plane in PLANES:
        place_all(rows, plane, lambda row: point_name(study, row), study.indifference)
    return rows


def place_all(
    rows: Sequence[Row], plane: Plane, name: Callable[[Row], str], indifference: Mapping[str, float]
) -> None:
    """Add the columns of a plane to each row. name: what a row is called. indifference: see StudyRecord."""
    known = sorted((row for row in rows if _known(plane, row)), key=lambda row: float(row[FVU.name]))
    for row in rows:
        row |= _place(plane, row, known, name, indifference)


def _known(plane: Plane, row: Row) -> bool:
    return row[FVU.name] is not None and row[plane.cost] is not None


def _point(study: StudyRecord, arm: Arm, setting: Key) -> tuple[Row, Arm]:
    """What an arm at a setting is called, and the arm on the reported seeds there, or else on the tuning seeds."""
    reported = at_setting(arm, setting, study.seeds)
    shown = reported or at_setting(arm, setting, study.tuning_seeds)
    assert shown is not None  # a setting has cells
    names = {
        "arm": arm.label,
        **columns(arm.levels),
        **columns(dict(zip(study.tuned, setting, strict=True))),
        "chosen": setting == arm.choice.shown and arm.choice.selection != "unselected",
        "seeds": REPORTED if reported else TUNING,
    }
    return names, replace(shown, label=point_name(study, names))


def _row(study: StudyRecord, names: Row, arm: Arm, figures: Row) -> Row:
    cells = next(iter(arm.settings.values()))
    tokens = max(cell.tokens for cell in cells.values())
    row = names | {"n": figures["n"]}
    for name in NAMES:
        row |= {column: figures[column] for column in (name, f"{name}_low", f"{name}_high")}
    flops = figures["flops_per_token"]
    costs = {"parameters": figures["parameters"], "flops_per_token": flops, "trained_tokens": tokens}
    return row | costs | {"training_flops": flops * tokens}


def _place(
    plane: Plane,
    row: Row,
    known: Sequence[Row],
    name: Callable[[Row], str],
    indifference: Mapping[str, float],
) -> Row:
    place: str | None = None
    dominating: list[Row] = []
    if _known(plane, row):
        better = list(_as_good(plane, row, known))
        dominating = [other for other in better if _beyond_doubt(plane, other, row, indifference)]
        place = DOMINATED if dominating else UNSURE if better else ON
    return {
        f"{plane.name}_place": place,
        f"{plane.name}_dominated_by": name(dominating[0]) if dominating else None,
        f"{plane.name}_dominating": len(dominating),
    }


def _as_good(plane: Plane, row: Row, known: Sequence[Row]) -> Iterator[Row]:
    """The points of no higher L0 whose means are as good in both, and better in one. known: by rising FVU."""
    fvu, cost = row[FVU.name], row[plane.cost]
    highest, most_active = (1 + plane.tolerance) * cost, (1 + TOLERANCE) * (row[L0.name] or 0.0)
    for other in known:
        if other[FVU.name] > fvu:
            return
        better = other[FVU.name] < fvu or other[plane.cost] < cost
        if better and other[plane.cost] <= highest and (other[L0.name] or 0.0) <= most_active:
            yield other


def _beyond_doubt(plane: Plane, a: Row, b: Row, indifference: Mapping[str, float]) -> bool:
    """Whether a is shown to be better than b in one of both, and worse by less than the margin in the other."""
    measured = (FVU, DEAD) if plane.measured else (FVU,)
    cheaper = not plane.measured and (1 + plane.tolerance) * a[plane.cost] < b[plane.cost]
    return (cheaper or any(_below(a, b, metric, 0.0) for metric in measured)) and all(
        _below(a, b, metric, indifference.get(metric.short, 0.0)) for metric in measured
    )


def _below(a: Row, b: Row, metric: Metric, margin: float) -> bool:
    """Whether a's interval lies wholly below b's, which is raised by a margin: in percent, or in points."""
    high, low = a[f"{metric.name}_high"], b[f"{metric.name}_low"]
    if high is None or low is None:
        return False
    raised = low * (1 + margin / 100) if metric.change == "percent" else low + margin / metric.scale
    return bool(high < raised)
