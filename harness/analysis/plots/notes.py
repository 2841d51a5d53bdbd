"""What a figure's note says of the metrics in it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from harness.analysis.view import View
from harness.metrics import Metric

WIDE = 2  # panels side by side; more of them are narrow
LETTERS = 22  # in a line below a narrow panel


def definitions_note(view: View, metrics: Iterable[Metric]) -> str:
    """The definitions of the optional ones, which not every reader knows; each on a line of its own."""
    return "".join(
        f"\n{metric.label}: {metric.defined(view.dead_window)}" for metric in metrics if metric.optional
    )


def axis_label(text: str, metric: Metric, panels: int) -> str:
    """The label of a panel's axis with the better direction below it; in short lines where panels are narrow."""
    lines = text.split("\n")
    if panels > WIDE:
        lines = [line for long in lines for line in textwrap.wrap(long, LETTERS)]
    return "\n".join([*lines, f"({metric.better} is better)"] if metric.better else lines)
