"""Stacked sparse layers one by one: what each adds, and how many of its latents are dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.arms import Arm, interval_columns
from harness.analysis.levels import columns
from harness.analysis.statistics import mean_interval

FIGURES = ("l0", "dead_fraction", "unexplained")


def layer_rows(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """One row an arm and sparse layer (from 1), with means over seeds; only of arms that stack several.

    `unexplained`: sum of squares of what is left over behind the layer / of what the SAE saw.
    """
    return [row for arm in arms for row in _rows(arm)]


def _rows(arm: Arm) -> list[dict[str, Any]]:
    stacks = [cell.layers for cell in arm.reported.values() if cell is not None and cell.fvu is not None]
    depths = {len(stack) for stack in stacks}  # a tuned axis may change the depth: then there is no mean
    if len(depths) != 1 or depths == {0} or depths == {1}:
        return []
    rows = []
    for number, layers in enumerate(zip(*stacks, strict=True), start=1):
        row = {"arm": arm.label, **columns(arm.levels), "layer": number, "n": len(layers)}
        for name in FIGURES:
            figures = [getattr(layer, name) for layer in layers]
            row |= interval_columns(name, mean_interval([figure for figure in figures if figure is not None]))
        rows.append(row)
    return rows
