"""Learning curves against training tokens: does an arm gain, lose or only lag?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.analysis.plots.panels import small_multiples
from harness.analysis.plots.scales import LOG_RATIO, ends_of, logarithmic, robust_limits, tokens
from harness.analysis.results import Key
from harness.analysis.view import Row, View

HEIGHT = 2.0  # inches


@dataclass(frozen=True)
class Curve:
    """A column of the curves table; `scale` turns its unit into the shown one."""

    column: str
    scale: float
    label: str


CURVES = (Curve("heldout_fvu", 1, "held-out FVU"), Curve("train_dead_fraction", 100, "dead latents, %"))


def draw(view: View) -> Figure | None:
    """Held-out FVU above, dead latents below; a column for each combination of the other axes."""
    points = view.tables["curves"]
    if not points:
        return None
    bands = " (bands)" if len(view.study.seeds) > 1 else ""
    tuned = "; each seed at its tuned setting" if view.study.tuned else ""
    panels = small_multiples(
        view,
        "Learning curves: held-out FVU and dead latents against training tokens",
        f"{view.seeds_note}{bands}{tuned}",
        [curve.label for curve in CURVES],
        HEIGHT,
    )
    for curve, row in zip(CURVES, panels.rows, strict=True):
        for ax, combination in zip(row, panels.combinations, strict=True):
            _draw_panel(ax, view, points, combination, curve)
            _set_scales(ax, points, curve)
    return panels.figure


def _draw_panel(ax: Axes, view: View, points: Sequence[Row], combination: Key, curve: Curve) -> None:
    lines: dict[str, list[Row]] = {}
    for row in points:
        if view.combination(row) == combination and row[curve.column] is not None:
            lines.setdefault(row["arm"], []).append(row)
    for rows in lines.values():
        colour = view.colour(view.level(rows[0]))
        x = [row["trained_tokens"] for row in rows]
        ax.plot(x, [curve.scale * row[curve.column] for row in rows], color=colour, lw=1.6, zorder=3)
        banded = [row for row in rows if row[f"{curve.column}_low"] is not None]
        low, high = ([curve.scale * row[f"{curve.column}_{end}"] for row in banded] for end in ("low", "high"))
        ax.fill_between([row["trained_tokens"] for row in banded], low, high, color=colour, alpha=0.15, lw=0)


def _set_scales(ax: Axes, points: Sequence[Row], curve: Curve) -> None:
    values = [curve.scale * row[curve.column] for row in points if row[curve.column] is not None] or [0.0]
    low, high = min(values), max(values)
    if curve.column == "heldout_fvu" and low > 0 and high / low > LOG_RATIO / 2:
        ax.set_yscale("log")
        ax.set_ylim(low / 1.1, high * 1.1)
        logarithmic(ax.yaxis, low / 1.1, high * 1.1)
    else:
        bottom, top = robust_limits(values, ends_of(points, curve.column, curve.scale))
        ax.set_ylim(max(bottom, -0.03 * top), top)
    last = max(row["trained_tokens"] for row in points)
    ax.set_xlim(0, 1.02 * last)
    if ax.xaxis.get_tick_params()["labelbottom"]:
        ax.set_xlabel("training tokens")
    ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(tokens))
