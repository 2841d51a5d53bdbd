"""FVU against what it costs, at every setting of every arm: dead latents, FLOPs of training, L0."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.analysis.comparability.l0 import TOLERANCE
from harness.analysis.comparability.planes import DOMINATED, ON, PLANES, TUNING, UNSURE, Plane, front
from harness.analysis.plots.labels import Point, label_points
from harness.analysis.plots.panels import colour_legend
from harness.analysis.plots.scales import LOG_RATIO, bounded, dead_axis, ends_of, logarithmic, robust_limits
from harness.analysis.plots.style import PALE, SOFT, page
from harness.analysis.results.levels import column, levels_in
from harness.analysis.sentences.text import count, listed, plural
from harness.analysis.views.palette import MARKERS
from harness.analysis.views.view import Row, View, unique
from harness.metrics import DEAD, FVU, L0
from harness.study.labels import describe

HEIGHT, BELOW = 4.2, 2.9  # inches: of the panel of dead latents, and of those below it
MOST_BARS = 60  # points whose intervals can be told apart; of more only those on the frontier have one
MOST_NAMES = 10
DEAD_PLANE, L0_PLANE, FLOPS_PLANE = PLANES
FILLS: dict[str, Literal["full", "left", "none"]] = {ON: "full", UNSURE: "left", DOMINATED: "none"}
NAMES = {"flops": "FLOPs", "l0": "L0"}
MEANINGS = {
    ON: "no point is better in both",
    UNSURE: "one has better means, not beyond doubt",
    DOMINATED: "dominated: one is better in both, beyond doubt",
}


def draw(view: View) -> Figure | None:
    """A panel of dead latents, below it those of FLOPs and L0 if points differ in them. None without points."""
    rows = [row for row in view.tables["frontier"] if row[FVU.name] is not None and row[DEAD.name] is not None]
    if not rows:
        return None
    below = [plane for plane in (FLOPS_PLANE, L0_PLANE) if _differ([row[plane.cost] for row in rows])]
    legends: list[Sequence[Artist]] = [_fill_legend(), _markers(view)]
    costs = listed(["dead latents", *(NAMES[plane.name] for plane in below)])
    figure, body = page(
        f"FVU against {costs}, at every setting of every arm",
        _note(view, rows),
        HEIGHT + (BELOW if below else 0),
        [] if view.many_arms else colour_legend(view),
        *legends,
    )
    spec = body.add_gridspec(
        2 if below else 1, max(len(below), 1), height_ratios=[HEIGHT, BELOW] if below else None
    )
    top = body.add_subplot(spec[0, :])
    _draw_dead(top, view, rows)
    for place, plane in enumerate(below):
        ax = body.add_subplot(spec[1, place])
        _draw_cost(ax, view, rows, plane)
    _label_front(figure, top, view, rows)
    return figure


def _differ(values: Sequence[float | None]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and max(known) > (1 + TOLERANCE) * min(known)


def _note(view: View, rows: Sequence[Row]) -> str:
    tuned = view.study.tuned
    note = f"{view.seeds_note}; {view.heldout_note}; lower left is better"
    if tuned:
        note += f"; thin lines join the settings ({listed(tuned)}) of one arm, large: the chosen one"
    if view.many_arms and view.hue is not None:
        note += f"; dark: {view.level_label(view.study.reference(view.hue))}"
    if any(row["seeds"] == TUNING for row in rows):
        n = len(view.study.tuning_seeds)
        note += f"; settings that were not chosen are of {plural(n, 'tuning seed')}"
        note += ", hence without intervals" * (n == 1)
    return f"{note}\n{_doubt(view)}"


def _doubt(view: View) -> str:
    """When one point is better than another one beyond doubt."""
    margins = [
        f"{view.study.indifference[metric.short]:g} {metric.change_unit} of {metric.label}"
        for metric in (FVU, DEAD)
        if metric.short in view.study.indifference
    ]
    if not margins:
        return f"beyond doubt: neither their {view.confidence} intervals of FVU nor those of dead latents overlap"
    return (
        f"beyond doubt: {view.confidence} intervals of one do not overlap, and those of the other show it worse "
        f"by less than {listed(margins)} at most"
    )


def _fill_legend() -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            lw=0,
            color=SOFT,
            marker="o",
            ms=6,
            mew=1.0,
            fillstyle=fill,
            markerfacecoloralt="white",
            label=text,
        )
        for fill, text in ((FILLS[place], MEANINGS[place]) for place in FILLS)
    ]


def _markers(view: View) -> list[Line2D]:
    if not view.rest or view.many_arms or len(view.combinations) > len(MARKERS):
        return []
    return [
        Line2D([], [], color=SOFT, marker=view.marker(key), ms=6, lw=0, label=view.combination_label(key))
        for key in view.combinations
    ]


def _draw_dead(ax: Axes, view: View, rows: Sequence[Row]) -> None:
    _draw_points(ax, view, rows, DEAD_PLANE, DEAD.scale)
    dead_axis(ax, rows)
    _draw_front(ax, view, rows, DEAD_PLANE, DEAD.scale)


def _draw_cost(ax: Axes, view: View, rows: Sequence[Row], plane: Plane) -> None:
    _draw_points(ax, view, rows, plane, 1.0)
    values = [row[plane.cost] for row in rows]
    low, high = min(values), max(values)
    if high / low > LOG_RATIO / 2:
        ax.set_xscale("log")
        low, high = low / 1.15, high * 1.15
        logarithmic(ax.xaxis, low, high)
        ax.set_xlim(low, high)
    if plane is FLOPS_PLANE:
        ax.xaxis.set_major_formatter(lambda value, _: count(value))
        ax.set_xlabel("FLOPs of training, all tokens")
    else:
        ax.set_xlabel(L0.axis)
    _draw_front(ax, view, rows, plane, 1.0)


def _draw_points(ax: Axes, view: View, rows: Sequence[Row], plane: Plane, scale: float) -> None:
    for arm in unique(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        colour = view.colour(view.level(own[0]))
        if len(own) > 1 and len(view.study.tuned) == 1:
            path = sorted(own, key=lambda row: _rank(view, row))
            x, y = [scale * row[plane.cost] for row in path], [row[FVU.name] for row in path]
            ax.plot(x, y, color=colour, lw=0.8, alpha=0.4, zorder=1)
        for row in own:
            if len(rows) <= MOST_BARS or row[f"{plane.name}_place"] == ON:
                _draw_bars(ax, row, plane, scale, colour)
            _draw_point(ax, view, row, plane, scale, colour)
    ax.set_ylim(*bounded(FVU, *robust_limits([row[FVU.name] for row in rows], ends_of(rows, FVU.name))))
    ax.set_ylabel(FVU.axis)


def _draw_front(ax: Axes, view: View, rows: Sequence[Row], plane: Plane, scale: float) -> None:
    """The frontier, to the ends of the panel: what lies above or right of it is not on it."""
    for stairs in _stairs(ax, view, rows, plane, scale):
        ax.step(*zip(*stairs, strict=True), where="post", color=PALE, lw=2.5, zorder=0.5, solid_capstyle="butt")


def _stairs(ax: Axes, view: View, rows: Sequence[Row], plane: Plane, scale: float) -> list[list[Point]]:
    """The points of each frontier with the ends of the panel: it goes right from one, then down to the next."""
    on = front(rows, plane)
    (_, right), (_, top) = ax.get_xlim(), ax.get_ylim()
    found = []
    for k in unique(_k(view, row, plane) for row in on):
        points = [(scale * row[plane.cost], row[FVU.name]) for row in on if _k(view, row, plane) == k]
        found.append([(points[0][0], top), *points, (right, points[-1][1])])
    return found


def _k(view: View, row: Row, plane: Plane) -> Any:
    """Points of different k have frontiers of their own, but where L0 is the cost."""
    return None if plane is L0_PLANE else view.study.value(levels_in(row, view.study.axes), "k")


def _rank(view: View, row: Row) -> float:
    """Settings in the order of their number, words in that of the study file."""
    axis = view.study.tuned[0]
    level = row[column(axis)]
    number = isinstance(level, int | float) and not isinstance(level, bool)
    return float(level) if number else float(view.study.axes[axis].index(level))


def _draw_bars(ax: Axes, row: Row, plane: Plane, scale: float, colour: str) -> None:
    x, y = scale * row[plane.cost], row[FVU.name]
    bars: dict[str, Any] = {"color": colour, "lw": 0.9, "alpha": 0.5, "zorder": 1.5}
    if row[f"{FVU.name}_low"] is not None:
        ax.plot([x, x], [row[f"{FVU.name}_low"], row[f"{FVU.name}_high"]], **bars)
    if row.get(f"{plane.cost}_low") is not None:
        ax.plot([scale * row[f"{plane.cost}_low"], scale * row[f"{plane.cost}_high"]], [y, y], **bars)


def _draw_point(ax: Axes, view: View, row: Row, plane: Plane, scale: float, colour: str) -> None:
    x, y = scale * row[plane.cost], row[FVU.name]
    place = row[f"{plane.name}_place"]
    face = "white" if place == DOMINATED else colour
    ax.plot(
        [x],
        [y],
        view.marker(view.combination(row)) if len(view.combinations) <= len(MARKERS) else MARKERS[0],
        ms=8.5 if row["chosen"] or not view.study.tuned else 5.5,
        mfc=face,
        mec=colour,
        mew=1.0,
        fillstyle="full" if place == DOMINATED else FILLS[place],
        markerfacecoloralt="white",
        zorder=4 if place == ON else 3,
    )


def _label_front(figure: Figure, ax: Axes, view: View, rows: Sequence[Row]) -> None:
    """Names the points on the frontier of dead latents: their settings; their arms, too, where these are many."""
    on = front(rows, DEAD_PLANE)
    on = on[:: -(-len(on) // MOST_NAMES) or 1]
    names = [_point_label(view, row) for row in on]
    at = {id(row): (DEAD.scale * row[DEAD.name], float(row[FVU.name])) for row in rows}
    others = [at[id(row)] for row in rows if row not in on]
    if any(names):
        label_points(figure, ax, [at[id(row)] for row in on], names, _level_lines(ax, view, rows), others)


def _level_lines(ax: Axes, view: View, rows: Sequence[Row]) -> list[tuple[Point, Point]]:
    """What is level about points on the frontier of dead latents: through a name, it would read as a hyphen."""
    lines = []
    for stairs in _stairs(ax, view, rows, DEAD_PLANE, DEAD.scale):
        lines += [((left, y), (right, y)) for (left, y), (right, _) in pairwise(stairs[1:])]
    for row in front(rows, DEAD_PLANE):
        if row[f"{DEAD.name}_low"] is not None:
            ends = [DEAD.scale * row[f"{DEAD.name}_{end}"] for end in ("low", "high")]
            lines.append(((ends[0], row[FVU.name]), (ends[1], row[FVU.name])))
    return lines


def _point_label(view: View, row: Row) -> str:
    setting = describe({axis: row[column(axis)] for axis in view.study.tuned})
    if view.many_arms:
        return ", ".join(part for part in (view.level_label(view.level(row)), setting) if part)
    return setting
