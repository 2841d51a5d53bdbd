"""Held-out normalised MSE against k, a line for each arm; beside it what others have published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.analysis.plots.scales import Ends, ends_of, logarithmic, name_ticks, robust_limits
from harness.analysis.plots.style import grid, page
from harness.analysis.results.levels import column
from harness.analysis.views.palette import MARKERS, PALETTE
from harness.analysis.views.view import Row, View, unique
from harness.metrics import metrics_at

HEIGHT, ROOM = 3.6, 8.8  # inches: a panel, and the body's width
MOST_LINES = len(PALETTE)
NMSE = next(metric for metric in metrics_at("final") if metric.name == "nmse")
Line = tuple[str, list[Row]]  # an arm but for its k, and what it has at each k


def draw(view: View) -> Figure | None:
    """A panel for the study, and one for published figures if it names any; None where k is no axis."""
    if "k" not in view.varying:
        return None
    published = view.study.published
    every = [line for line in _lines(view) if line[1]]
    if not every:
        return None
    lines = _shown(view, every, [] if published is None else list(published.nmse))
    names = [name for name, _ in lines]
    note = f"{view.seeds_note}; {view.heldout_note}"
    if published is not None:
        names = unique([*names, *published.nmse])[:MOST_LINES]
        note += f"\n{published.note}"
    if len(lines) < len(every):
        shown = f"{len(lines)} of {len(every)} lines, the baseline's and those with the lowest normalised MSE"
        note += f"\nshown: {shown}; all: tables/arms.csv"
    figure, body = page("Held-out normalised MSE against k", note, HEIGHT, _legend(names))
    panels = grid(body, 1, 1 if published is None else 2, sharey=True)[0]
    for name, rows in lines:
        _draw_line(panels[0], names.index(name), rows)
    ours = "this study" if published is not None else ""
    inches = ROOM / len(panels) - 1
    _finish(panels[0], ours, [row["k"] for _, rows in lines for row in rows], inches)
    if published is not None:
        for name, points in published.nmse.items():
            if name not in names:
                continue
            ks, values = zip(*sorted(points.items()), strict=True)
            panels[1].plot(ks, values, ls="--", lw=1.3, mfc="white", **_style(names.index(name)))
        _finish(panels[1], published.title, [k for points in published.nmse.values() for k in points], inches)
        panels[1].set_ylabel("")
    _set_limits(panels[0], lines, [v for p in published.nmse.values() for v in p.values()] if published else [])
    return figure


def _lines(view: View) -> list[Line]:
    """Arms by their levels on all axes but k, by rising k; without those that have no figure."""
    others = [axis for axis in view.varying if axis != "k"]
    keys = unique(tuple(arm[column(axis)] for axis in others) for arm in view.arms)
    found = []
    for key in keys:
        levels = dict(zip(others, key, strict=True))
        rows = [
            {**arm, "k": arm[column("k")]}
            for arm in view.arms
            if all(arm[column(axis)] == level for axis, level in levels.items()) and arm[NMSE.name] is not None
        ]
        label = view.study.describe(levels) or view.study.name
        found.append((label, sorted(rows, key=lambda row: int(row["k"]))))
    return found


def _shown(view: View, lines: Sequence[Line], published: Sequence[str]) -> list[Line]:
    """Not more than there are colours: the baseline's, those that are published too, the lowest of the others."""
    baseline = None if view.baseline is None else view.baseline["arm"]

    def order(line: Line) -> tuple[bool, bool, float]:
        name, rows = line
        own = any(row["arm"] == baseline for row in rows)
        return not own, name not in published, min(row[NMSE.name] for row in rows)

    kept = {name for name, _ in sorted(lines, key=order)[: MOST_LINES - 1 if published else MOST_LINES]}
    return [line for line in lines if line[0] in kept]


def _style(number: int) -> dict[str, Any]:
    return {"color": PALETTE[number], "marker": MARKERS[number]}


def _legend(names: Sequence[str]) -> list[Artist]:
    return [Line2D([], [], lw=1.6, label=name, **_style(number)) for number, name in enumerate(names)]


def _draw_line(ax: Axes, number: int, rows: list[Row]) -> None:
    style = _style(number)
    for row in rows:
        low, high = row[f"{NMSE.name}_low"], row[f"{NMSE.name}_high"]
        if low is not None and high is not None:
            ax.plot([row["k"]] * 2, [low, high], color=style["color"], lw=1.0, zorder=2)
    ax.plot([row["k"] for row in rows], [row[NMSE.name] for row in rows], lw=1.6, ms=5, **style)


def _finish(ax: Axes, title: str, ks: Sequence[int], inches: float) -> None:
    ax.set_xscale("log")
    ax.set_xlim(min(ks) / 1.15, 1.15 * max(ks))
    name_ticks(ax, {float(k): f"{k:,}" for k in ks}, inches)
    ax.set_xlabel("k, active latents per token")
    ax.set_ylabel(f"{NMSE.axis}\n({NMSE.better} is better)")
    ax.set_title(title)


def _set_limits(ax: Axes, lines: Sequence[Line], published: Sequence[float]) -> None:
    rows = [row for _, rows in lines for row in rows]
    ends: list[Ends] = ends_of(rows, NMSE.name)
    low, high = robust_limits([*(row[NMSE.name] for row in rows), *published], ends)
    if low > 0:
        ax.set_yscale("log")
        logarithmic(ax.yaxis, low, high)
    ax.set_ylim(low, high)
