"""The house style of all figures: sizes, colours, the head with title and legend, deterministic files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from harness.analysis.plots.lettering import escaped, families, shorten, width

WIDTH = 9.0  # inches; a README shows them about 900 px wide, so 1 pt is about 1.4 px there
DPI = 200  # also while places are found: letters have other widths at another

INK, SOFT, PALE, FAINT = "#1f2328", "#59636e", "#bcc4cd", "#d8dde3"
LOWER, HIGHER, LEVEL = "#0072b2", "#d55e00", "#7a828b"  # blue and vermillion are apart for every kind of sight

LEGEND_ROOM, LEGEND_ENTRY = 125, 60  # letters in a row of a legend, and of one entry
TALLEST = 10.8  # inches: 1,080 px in a README, about a screen; figures show the best of what does not fit

RC: dict[str, Any] = {
    "font.size": 9.0,
    "text.parse_math": False,  # a $ in the name of a level is no formula
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "svg.hashsalt": "harness",  # else the ids in an SVG differ each time
    "svg.fonttype": "path",  # else the page shows whatever font the reader has
    "path.simplify": True,
}


def page(title: str, note: str, height: float, *legends: Sequence[Artist]) -> tuple[Figure, SubFigure]:
    """A figure with a head (title, what is shown and its n, legends) and a body of `height` inches to draw in."""
    lines = [line for paragraph in note.split("\n") for line in textwrap.wrap(escaped(paragraph), 122)]
    rows = [row for legend in legends for row in _legend_rows(legend)]
    titles = textwrap.wrap(escaped(title), 90)
    below = 0.26 + 0.21 * (len(titles) - 1)  # where the note begins
    head = 0.14 + below + 0.17 * len(lines) + (0.21 * len(rows) + 0.05 if rows else 0.0)
    figure = Figure(figsize=(WIDTH, head + height), dpi=DPI, layout="constrained")
    top, body = (part for [part] in figure.subfigures(2, 1, squeeze=False, height_ratios=[head, height]))
    x, y = 0.012, 1 - 0.10 / head
    top.text(x, y, "\n".join(titles), fontsize=12, fontweight="bold", color=INK, va="top")
    top.text(x, y - below / head, "\n".join(lines), fontsize=8.5, color=SOFT, va="top", linespacing=1.35)
    for place, row in enumerate(rows):
        at = (0.0, 0.21 * (len(rows) - 1 - place) / head)
        options: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": at, "borderaxespad": 0.3}
        top.add_artist(top.legend(handles=row, ncols=len(row), handlelength=1.5, columnspacing=1.5, **options))
        top.legends.clear()  # `add_artist` keeps it: else every row would be drawn twice
    return figure, body


def _legend_rows(handles: Sequence[Artist]) -> list[list[Artist]]:
    """Handles in rows that fit the width; labels that are long for that are shortened."""
    rows: list[list[Artist]] = []
    room = 0
    for handle in handles:
        handle.set_label(shorten(escaped(str(handle.get_label())), LEGEND_ENTRY))
        letters = width(str(handle.get_label())) + 7
        if not rows or letters > room:
            rows.append([])
            room = LEGEND_ROOM
        rows[-1].append(handle)
        room -= letters
    return rows


def grid(body: SubFigure, rows: int, columns: int, **options: Any) -> list[list[Axes]]:
    """Axes as rows of columns."""
    axes = body.subplots(rows, columns, squeeze=False, **options)
    return [list(row) for row in axes]


def save(figure: Figure, path: Path) -> list[Path]:
    """Write PATH.png and PATH.svg without dates or versions, so that equal data gives equal bytes."""
    png, svg = path.with_suffix(".png"), path.with_suffix(".svg")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what was laid out stays: doing it again for each file doubles the time
    figure.savefig(png, dpi=DPI, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return [png, svg]


def house_style() -> Any:
    """Context in which figures are drawn and saved; the reader's own matplotlib settings play no part."""
    everything: dict[Any, Any] = {**mpl.rcParamsDefault, **RC, "font.family": families()}
    everything["backend"] = "agg"
    return mpl.rc_context(everything)
