"""Names beside points, where there are too many for a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from harness.analysis.style import INK, SOFT

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # left, bottom, right, top

SIZE = 8.5  # points
GAP = 6.0  # points between a point's middle and its name
RINGS = (1.0, 2.2, 3.4, 5.0, 7.0)  # how far a name may stand off, in gaps
DIRECTIONS = 12


def label_points(
    figure: Figure, ax: Axes, points: Sequence[Point], names: Sequence[str], bars: Sequence[tuple[Point, Point]]
) -> None:
    """Write each name beside its point, where it covers no point, bar or other name; far ones get a thin line.

    points, and the ends of bars: in units of the data. The figure is laid out once, since places on paper decide.
    """
    figure.draw_without_rendering()
    unit = figure.dpi / 72  # pixels in a point
    places = _on_paper(ax, points, unit)
    room = (ax.bbox.x0 / unit, ax.bbox.y0 / unit, ax.bbox.x1 / unit, ax.bbox.y1 / unit)
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    for low, high in bars:
        (left, bottom), (right, top) = _on_paper(ax, (low, high), unit)
        taken.append((left - 1, bottom - 1, right + 1, top + 1))
    for number in sorted(range(len(points)), key=lambda i: places[i]):
        box = min(_candidates(places[number], names[number]), key=lambda other: _cost(other, taken, room))
        taken.append(box)
        x, y = places[number]
        far = math.hypot(_clamp(x, box[0], box[2]) - x, _clamp(y, box[1], box[3]) - y) > 2.0 * GAP
        ax.annotate(
            names[number],
            points[number],
            xytext=((box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SIZE,
            color=INK,
            zorder=5,
            path_effects=[withStroke(linewidth=2.0, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": SOFT, "lw": 0.5, "shrinkA": 0, "shrinkB": 3} if far else None,
        )


def _on_paper(ax: Axes, points: Sequence[Point], unit: float) -> list[Point]:
    return [(float(x) / unit, float(y) / unit) for x, y in ax.transData.transform(points)]


def _candidates(place: Point, name: str) -> list[Box]:
    """Boxes round the point, the nearest first and the one to the right before all."""
    width, height = 0.58 * SIZE * len(name), 1.1 * SIZE
    boxes = []
    for ring in RINGS:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            across, up = math.cos(angle), math.sin(angle)
            x = place[0] + across * (ring * GAP + width / 2)
            y = place[1] + up * (ring * GAP + height / 2)
            boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return boxes


def _cost(box: Box, taken: Sequence[Box], room: Box) -> float:
    """The area that it shares with what is there, and what of it lies outside; equals keep their order."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return sum(_shared(box, other) for other in taken) + 10 * (area - _shared(box, room))


def _shared(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
