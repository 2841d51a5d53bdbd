"""Small multiples: one panel for each combination of all axes but the first, lines coloured by the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.analysis.results import Key
from harness.analysis.style import grid, page
from harness.analysis.view import View

MOST_COLUMNS = 4


@dataclass(frozen=True)
class Panels:
    """`rows[quantity][combination]`: axes of a quantity (a row of panels), in the order of the combinations."""

    figure: Figure
    rows: list[list[Axes]]
    combinations: list[Key]


def small_multiples(
    view: View, title: str, note: str, quantities: Sequence[str], height: float, *legends: Sequence[Artist]
) -> Panels:
    """Panels of `height` inches with a row a quantity; after four combinations a new block of rows begins.

    With one combination the quantities stand side by side.
    """
    combinations, depth = view.combinations, len(quantities)
    alone = len(combinations) == 1
    columns = min(MOST_COLUMNS, len(combinations))
    blocks = -(-len(combinations) // columns)
    down, across = (1, depth) if alone else (blocks * depth, columns)
    figure, body = page(title, note, height * max(down, 1.3) + 0.35, colour_legend(view), *legends)
    axes = grid(body, down, across)
    rows: list[list[Axes]] = [[axes[0][quantity]] if alone else [] for quantity in range(depth)]
    for place in range(0 if alone else blocks * columns):
        block, column = divmod(place, columns)
        for quantity in range(depth):
            ax = axes[block * depth + quantity][column]
            ax.set_visible(place < len(combinations))
            if place < len(combinations):
                rows[quantity].append(ax)
                ax.tick_params(labelleft=column == 0, labelbottom=quantity == depth - 1)
    for label, row in zip(quantities, rows, strict=True):
        for ax in row[::columns]:
            ax.set_ylabel(label)
    for ax, combination in zip(rows[0], combinations, strict=True):
        ax.set_title(view.combination_label(combination))
    return Panels(figure, rows, combinations)


def colour_legend(view: View) -> list[Line2D]:
    """What the colours mean; nothing where no axis varies."""
    if view.hue is None:
        return []
    return [Line2D([], [], color=view.colour(level), lw=2.4, label=view.level_label(level)) for level in view.hues]
