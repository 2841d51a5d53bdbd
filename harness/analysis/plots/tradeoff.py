"""Held-out FVU against dead latents: which arms buy one with the other?"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.plots.labels import Point, label_points
from harness.analysis.plots.lettering import distinct, shorten
from harness.analysis.plots.panels import arm_marker, colour_legend, marker_legend
from harness.analysis.plots.scales import bounded, dead_axis, ends_of, possible, robust_limits
from harness.analysis.plots.style import SOFT, grid, page
from harness.analysis.sentences.text import number
from harness.analysis.views.palette import PALETTE
from harness.analysis.views.view import Row, View
from harness.metrics import DEAD, FVU

HEIGHT, TALL = 3.9, 4.6  # inches
MOST_NAMES = 12
CROWD = 40  # arms: where there are more, markers are smaller, and not all have their intervals
LETTERS = 34  # of a name beside a point


def draw(view: View) -> Figure | None:
    """One point an arm; colour is the first axis, the marker the combination of the others."""
    arms = [arm for arm in view.arms if arm["fvu"] is not None and arm["dead_fraction"] is not None]
    if not arms:
        return None
    references = [pair for pair in view.references if pair[1]["fvu"] is not None][: MOST_NAMES // 4]
    references = [pair for pair in references if pair[1]["dead_fraction"] is not None]
    named = _named(view, arms)
    note = f"{view.seeds_note}; {view.heldout_note}; lower left is better"
    if _joined(view):
        note += f"; thin lines join arms with the same {view.hue}"
    if references:
        note += "; hollow stars: SAEs that this study has not trained"
    if len(named) < len(arms):
        names = "the baseline and the arms that no other arm beats in both"
        bars = " and intervals" if len(arms) > CROWD else ""
        note += f"\nwith names{bars}: {names}, at most {MOST_NAMES}; all {len(arms)}: tables/arms.csv"
    height, colours = HEIGHT if _joined(view) else TALL, []
    if not view.many_arms:
        colours = colour_legend(view, shapes=not view.has_markers)
    figure, body = page(
        "Held-out FVU against latents dead on held-out tokens", note, height, colours, marker_legend(view)
    )
    ax = grid(body, 1, 1)[0][0]
    _set_limits(ax, arms)
    for level in view.hues:
        _draw_level(ax, view, [arm for arm in arms if view.level(arm) == level], named)
    ax.set_ylabel(FVU.axis)
    _label(figure, ax, view, arms, named, [_draw_reference(ax, name, row) for name, row in references])
    return figure


def _named(view: View, arms: Sequence[Row]) -> list[Row]:
    """All arms, if they are few; else the baseline, and those that no other arm beats in both."""
    if len(arms) <= MOST_NAMES:
        return list(arms)
    best: list[Row] = []
    for arm in sorted(arms, key=lambda arm: (arm["fvu"], arm["dead_fraction"])):
        if not best or arm["dead_fraction"] < best[-1]["dead_fraction"]:
            best.append(arm)
    baseline = [arm for arm in arms if arm is view.baseline and arm not in best]
    return baseline + best[: MOST_NAMES - len(baseline)]


def _joined(view: View) -> bool:
    return view.has_markers and not view.many_arms


def _label(
    figure: Figure,
    ax: Axes,
    view: View,
    arms: Sequence[Row],
    named: Sequence[Row],
    stars: Sequence[tuple[str, Point]],
) -> None:
    """Names beside points: of the level alone where a marker says the rest."""
    level = _joined(view) or not view.rest
    words = [view.level_label(view.level(arm)) if level else arm["arm"] for arm in named]
    shown = [*distinct(words, LETTERS), *(name for name, _ in stars)]
    points = [_place(ax, DEAD.scale * arm["dead_fraction"], arm["fvu"]) for arm in named] + [at for _, at in stars]
    others = [_place(ax, DEAD.scale * arm["dead_fraction"], arm["fvu"]) for arm in arms if arm not in named]
    bars = [bar for arm in (arms if len(arms) <= CROWD else named) for bar in _bars(arm)]
    label_points(figure, ax, points, shown, bars, others)


def _bars(arm: Row) -> list[tuple[Point, Point]]:
    """The two intervals of an arm."""
    x, y = DEAD.scale * arm["dead_fraction"], arm["fvu"]
    if arm["fvu_low"] is None or arm["dead_fraction_low"] is None:
        return []
    ends = possible(DEAD, DEAD.scale * arm["dead_fraction_low"], DEAD.scale * arm["dead_fraction_high"])
    return [((ends[0], y), (ends[1], y)), ((x, arm["fvu_low"]), (x, arm["fvu_high"]))]


def _set_limits(ax: Axes, arms: list[Row]) -> None:
    ax.set_ylim(*bounded(FVU, *robust_limits([arm["fvu"] for arm in arms], ends_of(arms, "fvu"))))
    dead_axis(ax, arms)


def _place(ax: Axes, x: float, y: float) -> Point:
    """The point, or where the panel's edge is in its direction."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    return min(max(x, left), right), min(max(y, bottom), top)


def _draw_level(ax: Axes, view: View, arms: list[Row], named: Sequence[Row]) -> None:
    few = len(view.arms) <= CROWD
    for arm in arms:
        colour = view.colour(view.level(arm))
        x, y = DEAD.scale * arm["dead_fraction"], arm["fvu"]
        for start, end in _bars(arm) if few or arm in named else ():
            across, up = zip(start, end, strict=True)
            ax.plot(across, up, color=colour, lw=1.0)
        if arm is view.baseline:
            colour = PALETTE[0]
        marker = arm_marker(view, arm)
        ax.plot([x], [y], marker, ms=8 if few else 5.5, mfc=colour, mec="white", mew=0.6, zorder=4)
    if len(arms) > 1 and _joined(view):
        path = [(DEAD.scale * arm["dead_fraction"], arm["fvu"]) for arm in arms]
        ax.plot(*zip(*path, strict=True), color=view.colour(view.level(arms[0])), lw=0.9, alpha=0.45, zorder=1)


def _draw_reference(ax: Axes, name: str, row: Row) -> tuple[str, Point]:
    """A star, at the edge where its value lies outside of the arms' range; returns its name and place."""
    x, y = DEAD.scale * row["dead_fraction"], row["fvu"]
    place, name = _place(ax, x, y), shorten(name, LETTERS)
    if place != (x, y):
        name += f" (FVU {number(y, 2)}, {number(x, 1)} % dead)"
    ax.plot([place[0]], [place[1]], "*", ms=10, mfc="white", mec=SOFT, mew=1.0, zorder=4, clip_on=False)
    return name, place
