"""What is true of every good picture: texts lie on the paper, apart from each other, and there is an end to it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from harness.analysis.figures import FIGURES
from harness.analysis.plots.drawable import drawable
from harness.analysis.plots.style import TALLEST, house_style
from harness.analysis.tables import make_tables
from harness.analysis.views.view import View, load_view


def view_of(results: Path) -> View:
    """The view that figures are drawn from, of results without tables."""
    make_tables(results)
    return drawable(load_view(results))


def faults(figure: Figure) -> list[str]:
    """What a reader would complain of: too high, text outside of the paper, text over text."""
    found = [f"{figure.get_figheight():.1f} in high"] if figure.get_figheight() > TALLEST else []
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    # of an annotation its text alone, without the line to its point
    boxes = [(text.get_text(), Text.get_window_extent(text, renderer)) for text in texts(figure)]
    paper = figure.bbox.padded(1)
    found += [f"outside: {text!r}" for text, box in boxes if not _within(box, paper)]
    return found + [
        f"{one!r} over {other!r}" for (one, box), (other, second) in combinations(boxes, 2) if _over(box, second)
    ]


def _within(box: Bbox, paper: Bbox) -> bool:
    return box.x0 >= paper.x0 and box.x1 <= paper.x1 and box.y0 >= paper.y0 and box.y1 <= paper.y1


def _over(one: Bbox, other: Bbox) -> bool:
    """By more than two pixels: the boxes of letters have some air."""
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    up = min(one.y1, other.y1) - max(one.y0, other.y0)
    return across > 2 and up > 2


def texts(figure: Figure) -> Iterator[Text]:
    """All texts that are drawn."""
    for part in figure.subfigs:
        found = list(part.texts)
        found += [text for legend in _legends(part) for text in legend.get_texts()]
        for ax in part.axes:
            if ax.get_visible():
                found += _of_axes(ax)
        yield from (text for text in found if text.get_visible() and text.get_text().strip())


def _legends(part: object) -> list:  # type: ignore[type-arg]
    return [artist for artist in part.get_children() if hasattr(artist, "get_texts")]  # type: ignore[attr-defined]


def _of_axes(ax: Axes) -> list[Text]:
    found = [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax.title, ax._left_title]  # type: ignore[attr-defined]
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        found += [tick.label1 for tick in ticks]
    return found


def pictures(view: View) -> dict[str, Figure]:
    """All figures of a view that there are."""
    with house_style():
        drawn = {name: draw(view) for name, draw in FIGURES.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}
