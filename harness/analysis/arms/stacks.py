"""Stacked sparse layers one by one: what each adds, and how many of its latents are dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.arms.statistics import mean_interval
from harness.analysis.results.levels import columns
from harness.metrics import Metric


def layer_rows(arms: Sequence[Arm], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """One row per arm and sparse layer (from 1), with means over seeds; only of arms that stack several."""
    return [row for arm in arms for row in _rows(arm, metrics)]


def _rows(arm: Arm, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    stacks = [cell.layers for cell in arm.finished().values() if cell.layers]
    depths = {len(stack) for stack in stacks}  # a tuned axis may change the depth: then there is no mean
    if len(depths) != 1 or depths == {0} or depths == {1}:
        return []
    rows = []
    for number, layers in enumerate(zip(*stacks, strict=True), start=1):
        row = {"arm": arm.label, **columns(arm.levels), "layer": number, "n": len(layers)}
        for metric in metrics:
            figures = [layer.get(metric.name) for layer in layers]
            row |= interval_columns(metric.name, mean_interval([value for value in figures if value is not None]))
        rows.append(row)
    return rows
