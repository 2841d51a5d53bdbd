"""Limits and tick labels that all figures share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from harness.analysis.plots.lettering import width
from harness.metrics import DEAD, Metric

Ends: TypeAlias = tuple[float | None, float | None]

MOST_TICKS = 6
LETTER = 0.085  # inches, of a tick's label
LOG_RATIO = 4.0  # values that span more than this are shown on a logarithmic axis
LINEAR_BELOW = 1.0  # percent of dead latents; above it their axis is logarithmic
DEAD_TICKS = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)


def spread(low: float, high: float, share: float = 0.08) -> tuple[float, float]:
    """Limits with a margin on both sides; never of zero length."""
    margin = share * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def robust_limits(points: Iterable[float], intervals: Iterable[Ends] = ()) -> tuple[float, float]:
    """Limits that show all points and all usual intervals; one much longer than the others is cut.

    Two seeds have a t-quantile of 12.7: one such interval among those of three seeds would flatten all else.
    """
    values = list(points) or [0.0]
    ends = [(low, high) for low, high in intervals if low is not None and high is not None]
    low, high = min(values), max(values)
    usual = median([(top - bottom) / 2 for bottom, top in ends]) if ends else 0.0
    reach = max(2.5 * usual, 0.3 * (high - low))
    left, right = min([low, *(e[0] for e in ends)]), max([high, *(e[1] for e in ends)])
    return spread(max(left, low - reach), min(right, high + reach))


def bounded(metric: Metric, low: float, high: float) -> tuple[float, float]:
    """Limits in the shown unit that leave out, but for a small margin, what the metric cannot be."""
    lowest, highest = (None if bound is None else metric.scale * bound for bound in metric.bounds)
    if lowest is not None:
        low = max(low, lowest - 0.03 * (high - lowest))
    if highest is not None:
        high = min(high, highest + 0.03 * (highest - low))
    return low, high


def possible(metric: Metric, low: float, high: float) -> tuple[float, float]:
    """The part of an interval, in the shown unit, that the metric can have."""
    lowest, highest = metric.bounds
    low = low if lowest is None else max(low, metric.scale * lowest)
    return low, high if highest is None else min(high, metric.scale * highest)


def ends_of(rows: Iterable[Mapping[str, Any]], name: str, scale: float = 1.0) -> list[Ends]:
    """The intervals in a table's columns `name_low` and `name_high`."""
    pairs = [(row[f"{name}_low"], row[f"{name}_high"]) for row in rows]
    return [(scale * low, scale * high) for low, high in pairs if low is not None and high is not None]


def logarithmic(axis: Axis, low: float, high: float) -> None:
    """Ticks at 1, 2, 5 times powers of ten, written plainly."""
    ticks = [
        m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
    ]
    within = [tick for tick in ticks if low <= tick <= high]
    if len(within) < 3:
        within = _linear_ticks(low, high)
    if len(within) > MOST_TICKS:
        tens = [tick for tick in within if math.isclose(math.log10(tick) % 1, 0, abs_tol=1e-9)]
        within = tens if len(tens) > 1 else within
        within = within[:: -(-len(within) // MOST_TICKS)]
    axis.set_major_locator(FixedLocator(within))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _linear_ticks(low: float, high: float) -> list[float]:
    """Two to five: on a logarithmic axis the upper ones crowd."""
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    for factor in (5, 2, 1):
        if (high - low) / (factor * step) >= 2:
            step *= factor
            break
    first = math.ceil(low / step)
    return [step * i for i in range(first, math.floor(high / step) + 1)]


def name_ticks(ax: Axes, labels: Mapping[float, str], inches: float) -> None:
    """Ticks at these places of the horizontal axis, from the left, as far as their labels have room.

    inches: the width of the panel, whose limits and scale are already set.
    """
    kept: dict[float, str] = {}
    free = -math.inf
    for place, label in sorted(labels.items()):
        share = ax.transLimits.transform(ax.transScale.transform((place, ax.get_ylim()[0])))[0]
        half = LETTER * (width(label) + 1) / 2
        if share * inches - half >= free:
            kept[place] = label
            free = share * inches + half
    ax.set_xticks(list(kept), list(kept.values()))
    ax.set_xticks([], minor=True)


def clip_arrows(axes: Axes, y: float, low: float, high: float, colour: str) -> None:
    """Arrow heads where a horizontal interval leaves the panel."""
    left, right = axes.get_xlim()
    for outside, x, marker in ((low < left, left, "<"), (high > right, right, ">")):
        if outside:
            axes.plot([x], [y], marker=marker, ms=4, color=colour, clip_on=False, lw=0, zorder=4)


def dead_axis(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make the horizontal axis that of the dead latents of `rows`, which have their interval, too."""
    points = [DEAD.scale * row[DEAD.name] for row in rows]
    _, right = bounded(DEAD, *robust_limits(points, ends_of(rows, DEAD.name, DEAD.scale)))
    ax.set_xlabel(DEAD.axis)
    if max(points) > LINEAR_BELOW * LOG_RATIO:
        # deaths span from none to nearly all: linear alone would pile the good arms up at the edge
        ax.set_xscale("symlog", linthresh=LINEAR_BELOW, linscale=0.6)
        ticks = [tick for tick in DEAD_TICKS if tick <= right]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_xlabel(f"{DEAD.axis} (linear up to 1, logarithmic above)")
    ax.set_xlim(-0.04 * min(right, LINEAR_BELOW * LOG_RATIO), right)
