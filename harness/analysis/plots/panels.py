"""Small multiples: one panel for each combination of all axes but the first, lines coloured by the first.

Where the first has too many levels for that, every arm has its own panel, and the others are its background. Where
there are more panels than a figure has room for, those with the lowest FVU are shown.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.analysis.plots.lettering import distinct
from harness.analysis.plots.style import LEGEND_ENTRY, PALE, SOFT, grid, page
from harness.analysis.results.levels import Key
from harness.analysis.views.palette import PALETTE
from harness.analysis.views.view import Row, View

COLUMNS = (4, 3)  # at most
CROWDED = 0.7  # the height of a panel with one arm in it, or of one of many
FEW = 6  # panels of full height
TITLE = {1: 110, 2: 100, 3: 66, 4: 50}  # letters of a panel's title, in two lines


@dataclass(frozen=True)
class Panels:
    """`rows[quantity][place]`: axes of a quantity (a row of panels), in the order of `keys`, the shown panels."""

    figure: Figure
    rows: list[list[Axes]]
    keys: list[Key]


def small_multiples(
    view: View, title: str, note: str, quantities: Sequence[str], height: float, *legends: Sequence[Artist]
) -> Panels:
    """Panels of `height` inches with a row a quantity; after four, or three where that leaves fewer
    gaps, a new block of rows begins.

    With one panel a quantity the quantities stand side by side.
    """
    keys, depth = view.shown_panels, len(quantities)
    alone = len(keys) == 1
    columns = min(len(keys), min(COLUMNS, key=lambda columns: -len(keys) % columns))
    blocks = -(-len(keys) // columns)
    if view.many_arms or len(keys) > FEW:
        height *= CROWDED
    down, across = (1, depth) if alone else (blocks * depth, columns)
    figure, body = page(title, note, height * max(down, 1.3) + 0.35, colour_legend(view), *legends)
    axes = grid(body, down, across)
    rows: list[list[Axes]] = [[axes[0][quantity]] if alone else [] for quantity in range(depth)]
    for place in range(0 if alone else blocks * columns):
        block, column = divmod(place, columns)
        for quantity in range(depth):
            ax = axes[block * depth + quantity][column]
            ax.set_visible(place < len(keys))
            if place < len(keys):
                rows[quantity].append(ax)
                ax.tick_params(labelleft=column == 0, labelbottom=quantity == depth - 1)
    for label, row in zip(quantities, rows, strict=True):
        for ax in row[::columns]:
            ax.set_ylabel(label)
    titles = _titles(view, keys, columns)
    for ax, key in zip(rows[0], keys, strict=True):
        ax.set_title(titles[key])
    return Panels(figure, rows, keys)


def _titles(view: View, keys: Sequence[Key], columns: int) -> dict[Key, str]:
    """Labels of panels that no neighbour's overlaps: in two lines at most."""
    letters = TITLE[columns]
    labels = distinct([view.panel_label(key) for key in keys], letters - 10)
    lines = [textwrap.wrap(label, letters // 2) or [""] for label in labels]
    return {key: "\n".join(line) for key, line in zip(keys, lines, strict=True)}


def left_out(view: View, table: str) -> str:
    """What a figure of panels does not show, as the end of its note; empty where it shows everything."""
    shown, total = len(view.shown_panels), len(view.panels)
    if shown == total:
        return ""
    kind = "arms" if view.many_arms else "combinations"
    rule = f"the baseline's panel and the {shown - 1} with the lowest FVU"
    return f"\nshown: {rule}; all {total} {kind}: tables/{table}.csv"


def colour_legend(view: View, shapes: bool = True) -> list[Line2D]:
    """What the colours, and the shapes that go with them, mean; nothing where no axis varies."""
    if view.hue is None:
        return []
    if view.many_arms:
        reference = view.level_label(view.study.reference(view.hue))
        entries = [(PALETTE[1], 2.4, "the panel's arm"), (PALETTE[0], 1.0, reference), (PALE, 0.8, "the others")]
        return [Line2D([], [], color=colour, lw=width, label=label) for colour, width, label in entries]
    labels = distinct([view.level_label(level) for level in view.hues], LEGEND_ENTRY)
    return [
        Line2D([], [], color=view.colour(level), lw=2.4, label=label, **(view.shape(level) if shapes else {}))
        for level, label in zip(view.hues, labels, strict=True)
    ]


def marker_legend(view: View) -> list[Line2D]:
    """What the markers of arms mean, where each combination of the other axes has its own."""
    if not view.has_markers:
        return []
    labels = distinct([view.combination_label(key) for key in view.combinations], LEGEND_ENTRY)
    return [
        Line2D([], [], color=SOFT, marker=view.marker(key), ms=6, lw=0, label=label)
        for key, label in zip(view.combinations, labels, strict=True)
    ]


def arm_marker(view: View, arm: Row) -> str:
    """That of the combination of the other axes, or else of the level."""
    if view.has_markers:
        return view.marker(view.combination(arm))
    return str(view.shape(view.level(arm)).get("marker", "o"))


def background(ax: Axes, view: View, row: Row, x: Sequence[float], y: Sequence[float]) -> None:
    """Another panel's line, for comparison: thin, and only the reference dark."""
    reference = view.hue is not None and view.level(row) == view.study.reference(view.hue)
    colour, width, order = (PALETTE[0], 1.0, 2.5) if reference else (PALE, 0.7, 2.0)
    ax.plot(x, y, color=colour, lw=width, zorder=order)
