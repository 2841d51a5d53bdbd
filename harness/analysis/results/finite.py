"""Figures that are no numbers (NaN, infinite): left out, and kept by name for the reader to be told."""

from __future__ import annotations

import math

import polars as pl

from harness.analysis.results.records import CellRecord, Figures
from harness.metrics import curve_columns


def finite_cell(cell: CellRecord) -> CellRecord:
    """The cell without figures that are not finite, their names in `not_finite`.

    Without a finite FVU a complete cell has no result: it counts as diverged.
    """
    if cell.heldout is None:
        return cell
    if cell.fvu is not None and not math.isfinite(cell.fvu):
        reason = f"the held-out FVU is {cell.fvu}"
        return cell.model_copy(update={"state": "diverged", "reason": reason, "heldout": None})
    bad = _not_finite(cell.heldout)
    layers, names = [], list(bad)
    for number, layer in enumerate(cell.layers, start=1):
        lost = _not_finite(layer)
        layers.append(layer | lost)
        names += [f"{name} of layer {number}" for name in lost]
    kept = {"heldout": cell.heldout | bad, "layers": layers, "not_finite": tuple(names)}
    return cell.model_copy(update=kept)


def _not_finite(figures: Figures) -> Figures:
    return {name: None for name, value in figures.items() if value is not None and not math.isfinite(value)}


def finite_curves(curves: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """The points without figures that are not finite, and the names of these by cell.

    As in `heldout_fvu at 4,096 tokens`.
    """
    names: dict[str, list[str]] = {}
    measured = [column for column in curve_columns() if column in curves.columns]
    for column in measured:
        for cell, tokens in curves.filter(~pl.col(column).is_finite()).select("cell", "tokens").rows():
            names.setdefault(cell, []).append(f"{column} at {tokens:,} tokens")
    kept = [pl.when(pl.col(column).is_finite()).then(pl.col(column)).alias(column) for column in measured]
    return curves.with_columns(kept), names
