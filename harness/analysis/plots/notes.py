"""What a figure's note says of the metrics in it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from harness.analysis.interpretability.scores import brief_note, latents_note
from harness.analysis.views.view import View
from harness.metrics import Metric

WIDE = 2  # panels side by side; more of them are narrow
LETTERS = 22  # in a line below a narrow panel


def definitions_note(view: View, metrics: Iterable[Metric]) -> str:
    """The definitions of the optional ones, which not every reader knows; each on a line of its own."""
    metrics = list(metrics)
    found = "".join(
        f"\n{metric.label}: {metric.defined(view.dead_window)}"
        for metric in metrics
        if metric.optional and metric.group != "interpretability"
    )
    return found + brief_note(metrics)


def measured_note(view: View, metrics: Sequence[Metric]) -> str:
    """What figures are measured on: held-out activations, or latents that were sampled."""
    sampled = [metric.group == "interpretability" for metric in metrics]
    parts = [view.heldout_note] if not all(sampled) else []
    return "; ".join([*parts, latents_note(view)] if any(sampled) else parts)


def axis_label(text: str, metric: Metric, panels: int) -> str:
    """The label of a panel's axis with the better direction below it; in short lines where panels are narrow."""
    lines = text.split("\n")
    if panels > WIDE:
        lines = [line for long in lines for line in textwrap.wrap(long, LETTERS)]
    return "\n".join([*lines, f"({metric.better} is better)"] if metric.better else lines)
