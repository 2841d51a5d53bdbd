"""What a figure's note says of the metrics in it."""

from __future__ import annotations

from collections.abc import Iterable

from harness.analysis.view import View
from harness.metrics import Metric


def definitions_note(view: View, metrics: Iterable[Metric]) -> str:
    """The definitions of the optional ones, which not every reader knows; each on a line of its own."""
    return "".join(
        f"\n{metric.label}: {metric.defined(view.dead_window)}" for metric in metrics if metric.optional
    )


def direction(metric: Metric) -> list[str]:
    """Which direction is better, as a line below an axis; no line where neither is."""
    return [f"({metric.better} is better)"] if metric.better else []
