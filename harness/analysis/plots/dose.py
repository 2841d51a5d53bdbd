"""Dose and response: outcomes against what levels have in numbers, a line per combination of the other axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.analysis.plots.lettering import distinct, shorten
from harness.analysis.plots.notes import WIDE, axis_label, definitions_note
from harness.analysis.plots.scales import (
    LOG_RATIO,
    bounded,
    ends_of,
    logarithmic,
    name_ticks,
    robust_limits,
    spread,
)
from harness.analysis.plots.style import LEGEND_ENTRY, PALE, SOFT, grid, page
from harness.analysis.plots.verdicts import MARKS, mark_of
from harness.analysis.results.levels import Key, Level, column, unambiguous
from harness.analysis.sentences.text import listed
from harness.analysis.views.palette import MARKERS, PALETTE
from harness.analysis.views.series import Series, series
from harness.analysis.views.view import MOST_HUES, Row, View, unique
from harness.metrics import Metric

HEIGHT = 2.5  # inches
MOST_SERIES, MOST_OUTCOMES = 3, 4
MOST_PALE = 60  # lines in the background
CROWD = 20  # points of a line: where there are more, they are smaller
AXIS, ROOM = 0.75, 8.8  # inches: what stands beside a panel, the body's width
NO_INTERVAL = "no interval"  # the verdict where one seed, or none, has results


@dataclass(frozen=True)
class Curve:
    """The arms that differ in a series' axis only, by rising number. `number`: its place among the drawn colours;
    None for one in the background."""

    label: str
    rows: list[Row]
    number: int | None


def draw(view: View) -> Figure | None:
    """A row of panels for each series of numbers, a column for each outcome; None where no axis has numbers."""
    found = series(view)[:MOST_SERIES]
    outcomes = view.outcomes[:MOST_OUTCOMES]
    curves = [_curves(view, one) for one in found]
    if not any(row["fvu"] is not None for group in curves for curve in group for row in curve.rows):
        return None
    names = [shorten(one.name, 30) for one in found]
    title = f"Held-out {listed([outcome.label for outcome in outcomes])} against {listed(names)}"
    legends = [_legend(name, group, len(found) > 1) for name, group in zip(names, curves, strict=True)]
    note = f"{view.seeds_note}; {view.heldout_note}{_note(view, found, curves)}"
    note += definitions_note(view, outcomes)
    figure, body = page(title, note, HEIGHT * len(found) + 0.35, *legends)
    axes = grid(body, len(found), len(outcomes))
    for one, group, row in zip(found, curves, axes, strict=True):
        verdicts, scale = _pairs(view, one), _scale(one)
        for outcome, ax in zip(outcomes, row, strict=True):
            _draw_panel(ax, view, scale, group, outcome, verdicts)
            ax.set_ylabel(axis_label(outcome.drawn_on(view.dead_window), outcome, len(outcomes)))
            ax.set_xlabel(shorten(one.name, 30 if len(outcomes) <= WIDE else 22))
    return figure


def _note(view: View, found: Sequence[Series], curves: Sequence[Sequence[Curve]]) -> str:
    note = "; dotted line: the level that the others are compared with"
    if len(view.study.seeds) > 1:
        note += "; hollow: no difference from it was shown"
    pale = sum(curve.number is None for group in curves for curve in group)
    if pale:
        note += (
            "\nin colour: the lines with the lowest FVU, and the baseline's; grey: up to "
            f"{MOST_PALE} others; all: tables/arms.csv"
        )
    for one in found:
        if one.field is not None:
            note += f"\n{one.name}: of the levels of {one.axis} that differ in it alone"
    left_out = [one.name for one in series(view)[MOST_SERIES:]]
    left_out += [outcome.label for outcome in view.outcomes[MOST_OUTCOMES:]]
    return note + (f"\nnot shown: {listed(left_out)}, see tables/arms.csv" if left_out else "")


def _curves(view: View, one: Series) -> list[Curve]:
    others = [axis for axis in view.varying if axis != one.axis]
    arms = [arm for arm in view.arms if arm[column(one.axis)] in one.numbers]
    groups = unique(_key(arm, others) for arm in arms)
    chosen = view.best(groups, lambda arm: _key(arm, others), MOST_HUES)
    baseline = None if view.baseline is None else _key(view.baseline, others)
    chosen.sort(key=lambda group: group != baseline)  # the first colour, ink, is the baseline's
    levels = [dict(zip(others, group, strict=True)) for group in chosen]
    labels = unambiguous(levels, [view.study.describe(level) for level in levels])
    labels = distinct(labels, LEGEND_ENTRY)
    pale = [group for group in groups if group not in chosen][:MOST_PALE]
    order = list(one.numbers)

    def rows(group: Key) -> list[Row]:
        found = [arm for arm in arms if _key(arm, others) == group]
        return sorted(found, key=lambda arm: order.index(arm[column(one.axis)]))

    drawn = [
        Curve(label, rows(group), place) for place, (label, group) in enumerate(zip(labels, chosen, strict=True))
    ]
    return [Curve("", rows(group), None) for group in pale] + drawn


def _key(arm: Row, axes: Sequence[str]) -> Key:
    return tuple(arm[column(axis)] for axis in axes)


def _legend(name: str, curves: Sequence[Curve], several: bool) -> list[Artist]:
    drawn = [curve for curve in curves if curve.number is not None]
    if len(curves) == 1:
        return []
    handles: list[Artist] = [Line2D([], [], lw=1.6, label=curve.label, **_style(curve)) for curve in drawn]
    if any(curve.number is None for curve in curves):
        handles.append(Line2D([], [], lw=0.7, color=PALE, label="the others"))
    return [Line2D([], [], lw=0, label=f"{name}:"), *handles] if several else handles


def _style(curve: Curve) -> dict[str, Any]:
    assert curve.number is not None
    return {"color": PALETTE[curve.number], "marker": MARKERS[curve.number], "ms": 5}


def _pairs(view: View, one: Series) -> dict[str, Row]:
    """The effects table's row that compares an arm, by its label, with the same one at the reference level.

    Rows of a level and arms at it are in the same order.
    """
    others = [axis for axis in view.study.compared if axis != one.axis]
    reference = view.study.reference(one.axis)
    compared = {_key(arm, others) for arm in view.arms if _same(arm[column(one.axis)], reference)}
    found: dict[str, Row] = {}
    for level in one.numbers:
        arms = [arm for arm in view.arms if arm[column(one.axis)] == level and _key(arm, others) in compared]
        name = one.label(level) if one.field is None else level
        pairs = [row for row in view.tables["effects"] if row["axis"] == one.axis and row["kind"] == "pair"]
        rows = [row for row in pairs if row["level"] == name]
        if len(rows) == len(arms):
            found |= {arm["arm"]: row for arm, row in zip(arms, rows, strict=True)}
    return found


def _same(level: Level, other: Level) -> bool:
    return level == other or str(level) == str(other)


@dataclass(frozen=True)
class Scale:
    """Where the levels of a series stand. `off`: how many have no place among the numbers and stand left of them.

    These are levels without a number and, where the scale is logarithmic, 0.
    """

    series: Series
    places: dict[Level, float]
    off: int

    def place(self, row: Row) -> float:
        """Where a row of a table stands."""
        return self.places[row[column(self.series.axis)]]


def _scale(one: Series) -> Scale:
    known = [number for number in one.numbers.values() if number is not None]
    positive = [number for number in known if number > 0]
    log = min(known) >= 0 and len(positive) > 1 and _spans(sorted(positive))
    places = {
        level: math.log10(number) if log else number
        for level, number in one.numbers.items()
        if number is not None and (number > 0 or not log)
    }
    low, high = min(places.values()), max(places.values())
    step = 1.2 * (high - low) / max(len(places) - 1, 1)
    off = [level for level in one.numbers if level not in places]
    left = {level: low - step * (len(off) - i) for i, level in enumerate(off)}
    return Scale(one, left | places, len(off))


def _spans(numbers: Sequence[float]) -> bool:
    """Whether rising positive numbers are for a logarithmic scale, which has to spread them more evenly."""
    low, high = numbers[0], numbers[-1]
    gap = max(after - before for before, after in pairwise(numbers)) / (high - low)
    on_log = max(math.log(after / before) for before, after in pairwise(numbers)) / math.log(high / low)
    return high / low > LOG_RATIO and on_log < gap


def _draw_panel(
    ax: Axes, view: View, scale: Scale, curves: Sequence[Curve], outcome: Metric, verdicts: Mapping[str, Row]
) -> None:
    subplot = ax.get_subplotspec()
    inches = ROOM / (1 if subplot is None else subplot.get_gridspec().ncols) - AXIS
    low, high = min(scale.places.values()), max(scale.places.values())
    ax.set_xlim(*spread(low, high, 0.07))
    middle = (sum(curve.number is not None for curve in curves) - 1) / 2
    for curve in curves:
        rows = [row for row in curve.rows if row[outcome.name] is not None]
        shift = 0.0 if curve.number is None else 0.008 * (high - low) * (curve.number - middle)
        x = [scale.place(row) + shift for row in rows]
        y = [outcome.scale * row[outcome.name] for row in rows]
        if curve.number is None:
            ax.plot(x, y, color=PALE, lw=0.7, zorder=1)
            continue
        style = _style(curve)
        off = sum(scale.place(row) in list(scale.places.values())[: scale.off] for row in rows)
        ax.plot(x[off:], y[off:], color=style["color"], lw=1.4, zorder=2)
        ax.plot(x[: off + 1], y[: off + 1], color=style["color"], lw=1.1, ls=":", zorder=2)
        style["ms"] = 5 if len(rows) <= CROWD else 3
        for place, value, row in zip(x, y, rows, strict=True):
            _draw_point(ax, place, value, row, outcome, style, verdicts.get(row["arm"]))
    reference = view.study.reference(scale.series.axis)
    for level, place in scale.places.items():
        if _same(level, reference):
            ax.axvline(place, color=SOFT, lw=0.9, ls=":", zorder=0.5)
    labels = {place: scale.series.label(level) for level, place in scale.places.items()}
    name_ticks(ax, labels, inches)
    _limits(ax, curves, outcome)


def _draw_point(
    ax: Axes, x: float, y: float, row: Row, outcome: Metric, style: dict[str, Any], pair: Row | None
) -> None:
    """Mean and interval; hollow where the comparison with the reference level, if there is one, is undecided."""
    low, high = row[f"{outcome.name}_low"], row[f"{outcome.name}_high"]
    if low is not None and high is not None:
        ax.plot([x, x], [outcome.scale * low, outcome.scale * high], color=style["color"], lw=1.0, zorder=2)
    verdict = None if pair is None else pair[outcome.verdict]
    hollow = pair is not None and verdict != NO_INTERVAL and mark_of(outcome, verdict) is MARKS["undecided"]
    face = "white" if hollow else style["color"]
    ax.plot([x], [y], lw=0, mfc=face, mec=style["color"], mew=1.1, zorder=3, **style)


def _limits(ax: Axes, curves: Sequence[Curve], outcome: Metric) -> None:
    rows = [row for curve in curves for row in curve.rows if row[outcome.name] is not None]
    values = [outcome.scale * row[outcome.name] for row in rows]
    drawn = [row for curve in curves if curve.number is not None for row in curve.rows]
    low, high = bounded(outcome, *robust_limits(values, ends_of(drawn, outcome.name, outcome.scale)))
    if outcome.change == "percent" and values and min(values) > 0 and max(values) / min(values) > LOG_RATIO / 2:
        low, high = min(values) / 1.15, max(values) * 1.15
        ax.set_yscale("log")
        logarithmic(ax.yaxis, low, high)
    ax.set_ylim(low, high)
