"""The life of latents: at which rate the living die and the dead revive, as training goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from harness.analysis.plots.panels import small_multiples
from harness.analysis.plots.scales import logarithmic
from harness.analysis.plots.style import PALE
from harness.analysis.results.levels import Key
from harness.analysis.sentences.text import count
from harness.analysis.views.palette import PALETTE
from harness.analysis.views.view import Row, View

HEIGHT = 2.0  # inches
HAZARDS = {
    "death_hazard": "deaths per\nmillion tokens",
    "revival_hazard": "revivals per\nmillion tokens",
}
DECADES = 100  # an axis that spans more has ticks at powers of ten alone
FEWEST = 10  # latents at risk, all seeds together, for a hazard to be drawn


def draw(view: View) -> Figure | None:
    """A row of panels for deaths, one for revivals; None where curves do not count them."""
    points = [row for row in view.tables["life"] if row["kind"] == "point"]
    if not points:
        return None
    shown = {hazard: [row for row in points if _at_risk(row, hazard) >= FEWEST] for hazard in HAZARDS}
    note = (
        f"{_bands(view)}deaths per living latent, revivals per dead one; steps: between two points of the curve, "
        "from the first full dead window on (latents that were silent until then do not count as deaths)\n"
        f"dead: silent for the last {view.dead_window} training tokens, so a latent that dies here last fired "
        f"that long before; not drawn where fewer than {FEWEST} latents are at risk, below the axis where nothing "
        "happened"
    )
    panels = small_multiples(
        view, "The life of latents: how often they die and revive", note, [*HAZARDS.values()], HEIGHT
    )
    for hazard, row in zip(HAZARDS, panels.rows, strict=True):
        low, high = _limits([r[hazard] for r in shown[hazard]])
        for ax, key in zip(row, panels.keys, strict=True):
            ax.set_yscale("log")
            ax.set_ylim(low, high)
            logarithmic(ax.yaxis, low, high)
            if high / low > DECADES:
                ax.yaxis.set_major_locator(LogLocator(10))
            _draw_panel(ax, view, shown[hazard], key, hazard)
            _set_tokens(ax, points)
    return panels.figure


def _at_risk(row: Row, hazard: str) -> int:
    dead = int(row["dead_before"])
    return dead if hazard == "revival_hazard" else int(row["latents"]) - dead


def _limits(hazards: Sequence[float]) -> tuple[float, float]:
    """Of a logarithmic axis with all hazards but those of 0."""
    known = [hazard for hazard in hazards if hazard > 0] or [1.0]
    return min(known) / 1.5, max(known) * 1.5


def _bands(view: View) -> str:
    if len(view.study.seeds) == 1:
        return ""
    n = len(view.study.seeds)
    return f"n = {n} seeds, bands: 95 % intervals of Poisson counts, widened by how much seeds differ; "


def _draw_panel(ax: Axes, view: View, points: Sequence[Row], key: Key, hazard: str) -> None:
    for arm in view.arms:
        rows = [row for row in points if row["arm"] == arm["arm"] and row[hazard] is not None]
        if rows and view.panel(rows[0]) == key:
            colour = view.colour(view.level(rows[0]))
            edges, values = _steps(rows, hazard)
            ax.step(edges, values, where="post", color=colour, lw=1.4, zorder=3)
            if rows[0][f"{hazard}_low"] is not None:
                low, high = (_steps(rows, f"{hazard}_{end}")[1] for end in ("low", "high"))
                ax.fill_between(edges, low, high, step="post", color=colour, alpha=0.15, lw=0)
        elif rows and view.beside(rows[0], key):
            reference = view.hue is not None and view.level(rows[0]) == view.study.reference(view.hue)
            look = (PALETTE[0], 1.0, 2.5) if reference else (PALE, 0.7, 2.0)
            ax.step(*_steps(rows, hazard), where="post", color=look[0], lw=look[1], zorder=look[2])


def _steps(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    """Where each step begins and ends, and its value there; no value where a step is missing."""
    edges, values = [rows[0]["tokens_from"]], []
    for row in rows:
        if row["tokens_from"] != edges[-1]:
            edges.append(row["tokens_from"])
            values.append(math.nan)
        edges.append(row["trained_tokens"])
        values.append(row[name])
    return edges, [*values, values[-1]]


def _set_tokens(ax: Axes, points: Sequence[Row]) -> None:
    ax.set_xlim(0, 1.02 * max(row["trained_tokens"] for row in points))
    if ax.xaxis.get_tick_params()["labelbottom"]:
        ax.set_xlabel("training tokens")
    ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
