"""Learning curves: means over an arm's seeds at each count of training tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.arms.statistics import mean_interval
from harness.analysis.results.levels import columns
from harness.analysis.results.records import CellRecord, StudyRecord
from harness.metrics import curve_columns


def with_full_windows(study: StudyRecord, cells: Sequence[CellRecord], curves: pl.DataFrame) -> pl.DataFrame:
    """The points, without deaths in training where fewer tokens were seen than a dead window has.

    No latent can be dead there yet: that 0 says nothing.
    """
    windows = {cell.cell: study.dead_window_at({**cell.arm, **cell.tuned}) for cell in cells}
    full = pl.col("tokens") >= pl.col("cell").replace_strict(windows, default=0, return_dtype=pl.Int64)
    return curves.with_columns(pl.when(full).then(pl.col("train_dead_fraction")).alias("train_dead_fraction"))


def curve_rows(arms: Sequence[Arm], curves: pl.DataFrame) -> list[dict[str, Any]]:
    """One row an arm and token count, over the cells that the arm is reported with.

    No mean where one of them lacks the figure: that of the others would make a step in the curve. An optional
    metric that no point has is left out.
    """
    measured = [name for name, m in curve_columns().items() if not m.optional or curves[name].count()]
    points = {cell: part.sort("tokens") for (cell,), part in curves.group_by("cell")}
    rows = []
    for arm in arms:
        # complete cells only: a curve that breaks off would shift the mean where it ends
        parts = [points[cell.cell] for cell in arm.finished().values() if cell.cell in points]
        for (tokens,), at in pl.concat(parts).group_by("tokens") if parts else []:
            if at.height < len(parts):  # a cell that another study has trained may have points of its own
                continue
            row = {"arm": arm.label, **columns(arm.levels), "trained_tokens": tokens, "n": at.height}
            for curve in measured:
                figures = at[curve].to_list() if not at[curve].has_nulls() else []
                row |= interval_columns(curve, mean_interval(figures))
            rows.append(row)
    order = {arm.label: place for place, arm in enumerate(arms)}
    return sorted(rows, key=lambda row: (order[row["arm"]], row["trained_tokens"]))
