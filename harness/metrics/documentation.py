"""The table of docs/definitions.md."""

from __future__ import annotations

from harness import metrics
from harness.metrics.metric import Metric, Place

PLACES: dict[Place, str] = {
    "final": "after training",
    "layer": "each sparse layer",
    "heldout": "curves (held out)",
    "train": "curves (training)",
}


def markdown_table() -> str:
    """The table of docs/definitions.md."""
    head = ("name", "metric", "definition", "better", "range", "where")
    rows = [head, tuple("---" for _ in head), *(_documented(metric) for metric in metrics.METRICS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _documented(metric: Metric) -> tuple[str, ...]:
    definition = metric.defined().replace("|", "\\|")
    where = ", ".join(PLACES[place] for place in metric.places)
    if metric.optional:
        where += f"; {metric.optional}"
    return f"`{metric.name}`", metric.label, definition, metric.better or "", _range(metric), where


def _range(metric: Metric) -> str:
    """The values that it can have as they are shown, as in `0 to 100 %` or `0 or more`."""
    low, high = (None if bound is None else f"{metric.scale * bound:g}" for bound in metric.bounds)
    if low is None or high is None:
        return f"{low} or more" if low else f"{high} or less" if high else "any"
    return f"{low} to {high}{metric.unit}"
