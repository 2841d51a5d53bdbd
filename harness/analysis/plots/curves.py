"""Learning curves against training tokens: does an arm gain, lose or only lag?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.analysis.comparability.l0 import MOST_ACTIVE
from harness.analysis.plots.panels import background, left_out, small_multiples
from harness.analysis.plots.scales import LOG_RATIO, bounded, ends_of, logarithmic, robust_limits
from harness.analysis.results.levels import Key
from harness.analysis.sentences.text import count, listed
from harness.analysis.views.view import Row, View
from harness.metrics import Metric, curve_columns

HEIGHT = 2.0  # inches
MARKS = 6  # markers on a line, about


def draw(view: View) -> Figure | None:
    """A row of panels for each curve: held-out ones above, those of training below."""
    points = view.tables["curves"]
    if not points:
        return None
    curves = {name: m for name, m in curve_columns().items() if m.change is not None and name in points[0]}
    held_out = [metric.label for name, metric in curves.items() if name.startswith("heldout_")]
    training = [metric.label for name, metric in curves.items() if not name.startswith("heldout_")]
    bands = " (bands)" if len(view.study.seeds) > 1 else ""
    tuned = "; each seed at its tuned setting" if view.study.tuned else ""
    arms: dict[str, list[Row]] = {}
    for point in points:
        arms.setdefault(point["arm"], []).append(point)
    more = any(_until_unequal(rows) for rows in arms.values())
    dots = f"; dotted: {listed(held_out)} with more active latents than in the end" if more else ""
    on = f"{listed(held_out)} on {view.study.curve_heldout_tokens:,} held-out tokens"
    shown = set(view.shown_panels)
    points = [row for row in points if view.panel(row) in shown] or points
    panels = small_multiples(
        view,
        f"Learning curves: {', and '.join([f'held-out {listed(held_out)}', *training])}",
        f"{view.seeds_note_at_95}{bands}; {on}{tuned}{dots}{left_out(view, 'curves')}",
        [metric.drawn_on(view.dead_window) for metric in curves.values()],
        HEIGHT,
    )
    for (column, metric), row in zip(curves.items(), panels.rows, strict=True):
        for ax, key in zip(row, panels.keys, strict=True):
            _draw_panel(ax, view, points, key, column, metric.scale)
            _set_scales(ax, points, column, metric)
    return panels.figure


def _draw_panel(ax: Axes, view: View, points: Sequence[Row], key: Key, column: str, scale: float) -> None:
    lines: dict[str, list[Row]] = {}
    for row in points:
        if row[column] is not None and (view.panel(row) == key or view.beside(row, key)):
            lines.setdefault(row["arm"], []).append(row)
    for rows in lines.values():
        x, y = [row["trained_tokens"] for row in rows], [scale * row[column] for row in rows]
        if view.beside(rows[0], key):
            background(ax, view, rows[0], x, y)
            continue
        colour = view.colour(view.level(rows[0]))
        fair = _until_unequal(rows) if column.startswith("heldout_") else 0
        shape: dict[str, Any] = view.shape(view.level(rows[0]))
        shape["markevery"] = (0, max(1, len(x[fair:]) // MARKS))
        ax.plot(x[fair:], y[fair:], color=colour, lw=1.6, zorder=3, **shape)
        if fair:
            ax.plot(x[: fair + 1], y[: fair + 1], color=colour, lw=1.2, ls=":", zorder=3)
        banded = [row for row in rows if row[f"{column}_low"] is not None]
        low, high = ([scale * row[f"{column}_{end}"] for row in banded] for end in ("low", "high"))
        ax.fill_between([row["trained_tokens"] for row in banded], low, high, color=colour, alpha=0.15, lw=0)


def _until_unequal(rows: Sequence[Row]) -> int:
    """Points from the first to the last one at which an arm has more active latents than in the end (k decay)."""
    final = rows[-1]["heldout_l0"]
    unequal = [n for n, row in enumerate(rows, 1) if final and (row["heldout_l0"] or 0) > MOST_ACTIVE * final]
    return max(unequal, default=0)


def _set_scales(ax: Axes, points: Sequence[Row], column: str, metric: Metric) -> None:
    values = [metric.scale * row[column] for row in points if row[column] is not None] or [0.0]
    low, high = min(values), max(values)
    if metric.change == "percent" and low > 0 and high / low > LOG_RATIO / 2:
        ax.set_yscale("log")
        ax.set_ylim(low / 1.1, high * 1.1)
        logarithmic(ax.yaxis, low / 1.1, high * 1.1)
    else:
        ax.set_ylim(*bounded(metric, *robust_limits(values, ends_of(points, column, metric.scale))))
    last = max(row["trained_tokens"] for row in points)
    ax.set_xlim(0, 1.02 * last)
    if ax.xaxis.get_tick_params()["labelbottom"]:
        ax.set_xlabel("training tokens")
    ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
