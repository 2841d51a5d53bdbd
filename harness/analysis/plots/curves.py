"""Learning curves against training tokens: does an arm gain, lose or only lag?"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.analysis.l0 import MOST_ACTIVE
from harness.analysis.levels import Key
from harness.analysis.outcomes import DEAD, FVU
from harness.analysis.plots.panels import background, small_multiples
from harness.analysis.plots.scales import LOG_RATIO, ends_of, logarithmic, robust_limits
from harness.analysis.view import Row, View
from harness.analysis.wording import count

HEIGHT = 2.0  # inches


CURVES = {"heldout_fvu": FVU, "train_dead_fraction": DEAD}  # columns of the curves table: what they are curves of


def draw(view: View) -> Figure | None:
    """Held-out FVU above, latents that are silent in training below, in each of the view's panels."""
    points = view.tables["curves"]
    if not points:
        return None
    bands = " (bands)" if len(view.study.seeds) > 1 else ""
    tuned = "; each seed at its tuned setting" if view.study.tuned else ""
    arms = [[row for row in points if row["arm"] == arm["arm"]] for arm in view.arms]
    more = any(_until_unequal(rows) for rows in arms if rows)
    dots = "; dotted: FVU with more active latents than in the end" if more else ""
    panels = small_multiples(
        view,
        "Learning curves: held-out FVU, and latents that are silent in training",
        f"{view.seeds_note}{bands}; FVU on {view.study.curve_heldout_tokens:,} held-out tokens{tuned}{dots}",
        ["held-out FVU", f"silent for the last\n{view.dead_window} training\ntokens, %"],
        HEIGHT,
    )
    for column, row in zip(CURVES, panels.rows, strict=True):
        for ax, key in zip(row, panels.keys, strict=True):
            _draw_panel(ax, view, points, key, column)
            _set_scales(ax, points, column)
    return panels.figure


def _draw_panel(ax: Axes, view: View, points: Sequence[Row], key: Key, column: str) -> None:
    scale = CURVES[column].scale
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
        fair = _until_unequal(rows) if column == "heldout_fvu" else 0
        ax.plot(x[fair:], y[fair:], color=colour, lw=1.6, zorder=3)
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


def _set_scales(ax: Axes, points: Sequence[Row], column: str) -> None:
    scale = CURVES[column].scale
    values = [scale * row[column] for row in points if row[column] is not None] or [0.0]
    low, high = min(values), max(values)
    if column == "heldout_fvu" and low > 0 and high / low > LOG_RATIO / 2:
        ax.set_yscale("log")
        ax.set_ylim(low / 1.1, high * 1.1)
        logarithmic(ax.yaxis, low / 1.1, high * 1.1)
    else:
        bottom, top = robust_limits(values, ends_of(points, column, scale))
        ax.set_ylim(max(bottom, -0.03 * top), top)
    last = max(row["trained_tokens"] for row in points)
    ax.set_xlim(0, 1.02 * last)
    if ax.xaxis.get_tick_params()["labelbottom"]:
        ax.set_xlabel("training tokens")
    ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
