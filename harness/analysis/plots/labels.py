"""Names beside points, where there are too many for a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke

from harness.analysis.plots.style import INK, SOFT

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]  # left, bottom, right, top

SIZE = 8.5  # points
GAP = 6.0  # points between a point's middle and its name
RINGS = (1.0, 2.2, 3.4, 5.0, 7.0, 10.0, 14.0)  # how far a name may stand off, in gaps
DIRECTIONS = 12
UPON = 50.0  # how much worse a name upon a name is than one upon a point or a bar


def label_points(
    figure: Figure,
    ax: Axes,
    points: Sequence[Point],
    names: Sequence[str],
    bars: Sequence[tuple[Point, Point]],
    nameless: Sequence[Point] = (),
) -> None:
    """Write each name beside its point, where it covers no point, bar or other name; far ones get a thin line.

    A name that would cover another one wherever it stands is left out.

    points, those without a name, and the ends of bars: in units of the data. The figure is laid out once, since
    places on paper decide.
    """
    figure.draw_without_rendering()
    unit = figure.dpi / 72  # pixels in a point
    places = _on_paper(ax, points, unit)
    room = (ax.bbox.x0 / unit, ax.bbox.y0 / unit, ax.bbox.x1 / unit, ax.bbox.y1 / unit)
    dots = [*places, *(_on_paper(ax, nameless, unit) if nameless else ())]
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for low, high in bars:
        (left, bottom), (right, top) = _on_paper(ax, (low, high), unit)
        taken.append((left - 1, bottom - 1, right + 1, top + 1))
    written: list[Box] = []
    for number in sorted(range(len(points)), key=lambda i: places[i]):
        boxes = _candidates(places[number], _size(figure, names[number], unit))
        box = min(boxes, key=lambda other: _cost(other, taken, room) + UPON * _cost(other, written, room))
        if any(_shared(box, other) for other in written):
            continue
        written.append(box)
        x, y = places[number]
        far = math.hypot(_clamp(x, box[0], box[2]) - x, _clamp(y, box[1], box[3]) - y) > 2.0 * GAP
        text = ax.annotate(
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
        text.set_in_layout(False)  # else a name near the edge would shift the panel, and all places with it


def _on_paper(ax: Axes, points: Sequence[Point], unit: float) -> list[Point]:
    return [(float(x) / unit, float(y) / unit) for x, y in ax.transData.transform(points)]


def _size(figure: Figure, name: str, unit: float) -> tuple[float, float]:
    """Width and height of a name in points, with a little air."""
    renderer: Any = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    across, up, _ = renderer.get_text_width_height_descent(name, FontProperties(size=SIZE), ismath=False)
    return across / unit + 2, up / unit + 2


def _candidates(place: Point, size: tuple[float, float]) -> list[Box]:
    """Boxes round the point, the nearest first and the one to the right before all."""
    across, up = size
    boxes = []
    for ring in RINGS:
        for step in range(DIRECTIONS):
            angle = 2 * math.pi * step / DIRECTIONS
            x = place[0] + math.cos(angle) * (ring * GAP + across / 2)
            y = place[1] + math.sin(angle) * (ring * GAP + up / 2)
            boxes.append((x - across / 2, y - up / 2, x + across / 2, y + up / 2))
    return boxes


def _cost(box: Box, taken: Sequence[Box], room: Box) -> float:
    """The area that it shares with what is there, and what of it lies outside; equals keep their order."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return sum(_shared(box, other) for other in taken) + 10 * (area - _shared(box, room))


def _shared(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(up, 0.0)


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
