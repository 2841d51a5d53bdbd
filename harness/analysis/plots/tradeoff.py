"""Held-out FVU against dead latents: which arms buy one with the other?"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.analysis.plots.labels import label_points
from harness.analysis.plots.panels import colour_legend
from harness.analysis.plots.scales import LOG_RATIO, bounded, ends_of, robust_limits
from harness.analysis.style import SOFT, grid, page
from harness.analysis.view import Row, View
from harness.metrics import DEAD, FVU

HEIGHT, TALL = 3.9, 4.6  # inches
LINEAR_BELOW = 1.0  # percent; above it the axis is logarithmic
TICKS = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)


def draw(view: View) -> Figure | None:
    """One point an arm; colour is the first axis, the marker the combination of the others."""
    arms = [arm for arm in view.arms if arm["fvu"] is not None and arm["dead_fraction"] is not None]
    if not arms:
        return None
    note = f"{view.seeds_note}; {view.heldout_note}; lower left is better"
    if view.rest and not view.many_arms:
        note += f"; thin lines join arms with the same {view.hue}"
    height, colours = (TALL, []) if view.many_arms else (HEIGHT, colour_legend(view))
    figure, body = page(
        "Held-out FVU against latents dead on held-out tokens", note, height, colours, _marker_legend(view)
    )
    ax = grid(body, 1, 1)[0][0]
    _set_limits(ax, arms)
    for level in view.hues:
        _draw_level(ax, view, [arm for arm in arms if view.level(arm) == level])
    ax.set_ylabel(FVU.axis)
    if view.many_arms:
        _label_levels(figure, ax, view, arms)
    return figure


def _label_levels(figure: Figure, ax: Axes, view: View, arms: list[Row]) -> None:
    points = [(DEAD.scale * arm["dead_fraction"], arm["fvu"]) for arm in arms]
    bars = []
    for (x, y), arm in zip(points, arms, strict=True):
        if arm["fvu_low"] is not None and arm["dead_fraction_low"] is not None:
            bars.append(((DEAD.scale * arm["dead_fraction_low"], y), (DEAD.scale * arm["dead_fraction_high"], y)))
            bars.append(((x, arm["fvu_low"]), (x, arm["fvu_high"])))
    label_points(figure, ax, points, [view.level_label(view.level(arm)) for arm in arms], bars)


def _marker_legend(view: View) -> list[Line2D]:
    if not view.rest:
        return []
    return [
        Line2D([], [], color=SOFT, marker=view.marker(key), ms=6, lw=0, label=view.combination_label(key))
        for key in view.combinations
    ]


def _set_limits(ax: Axes, arms: list[Row]) -> None:
    ax.set_ylim(*bounded(FVU, *robust_limits([arm["fvu"] for arm in arms], ends_of(arms, "fvu"))))
    points = [DEAD.scale * arm["dead_fraction"] for arm in arms]
    _, right = bounded(DEAD, *robust_limits(points, ends_of(arms, "dead_fraction", DEAD.scale)))
    ax.set_xlabel(DEAD.axis)
    if max(points) > LINEAR_BELOW * LOG_RATIO:
        # deaths span from none to nearly all: linear alone would pile the good arms up at the edge
        ax.set_xscale("symlog", linthresh=LINEAR_BELOW, linscale=0.6)
        ticks = [tick for tick in TICKS if tick <= right]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlabel(f"{DEAD.axis} (linear up to 1, logarithmic above)")
    ax.set_xlim(-0.04 * min(right, LINEAR_BELOW * LOG_RATIO), right)


def _draw_level(ax: Axes, view: View, arms: list[Row]) -> None:
    for arm in arms:
        colour = view.colour(view.level(arm))
        x, y = DEAD.scale * arm["dead_fraction"], arm["fvu"]
        if arm["fvu_low"] is not None and arm["dead_fraction_low"] is not None:
            ax.plot(
                [DEAD.scale * arm["dead_fraction_low"], DEAD.scale * arm["dead_fraction_high"]],
                [y, y],
                color=colour,
                lw=1.0,
            )
            ax.plot([x, x], [arm["fvu_low"], arm["fvu_high"]], color=colour, lw=1.0)
        marker = view.marker(view.combination(arm))
        ax.plot([x], [y], marker, ms=8, mfc=colour, mec="white", mew=0.6, zorder=4)
    if len(arms) > 1 and not view.many_arms:
        path = [(DEAD.scale * arm["dead_fraction"], arm["fvu"]) for arm in arms]
        ax.plot(*zip(*path, strict=True), color=view.colour(view.level(arms[0])), lw=0.9, alpha=0.45, zorder=1)
