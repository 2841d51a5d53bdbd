"""Which latents are explained, and where: scores by firing rate, recall by strength of activation."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.analysis.interpretability.breakdown import FEWEST, QUANTILE, RATE, RATE_BINS, RATES
from harness.analysis.interpretability.scores import CHANCE, latents_note
from harness.analysis.plots.panels import background, left_out, small_multiples
from harness.analysis.plots.scales import Ends, robust_limits
from harness.analysis.plots.style import SOFT
from harness.analysis.results.levels import Key
from harness.analysis.views.view import Row, View

HEIGHT = 2.0  # inches
WIDTH = 0.5  # of a bin, in which points of several arms stand beside each other
QUANTITIES = ((RATE, "detection"), (QUANTILE, "recall"))
LABELS = ("detection of\nalive latents, %", "recall of activating\nwindows, %")


def draw(view: View) -> Figure | None:
    """A row of panels by firing rate, one by quantile of activation; None where no latents were sampled."""
    rows = {
        by: [r for r in view.tables["latents"] if r["by"] == by and r[name] is not None] for by, name in QUANTITIES
    }
    if not any(rows.values()):
        return None
    note = (
        f"{_bars(view)}{latents_note(view)}; without dead ones; not drawn where a cell has fewer than {FEWEST} "
        "scored latents of that firing rate\n"
        "detection: balanced accuracy of the judge against random windows (dotted: chance); recall: share of the "
        "windows that a latent fires in that the judge finds, by how strongly it fires"
    )
    panels = small_multiples(
        view, "Which latents are explained, and where", note + left_out(view, "latents"), LABELS, HEIGHT
    )
    for (by, name), axes in zip(QUANTITIES, panels.rows, strict=True):
        limits = robust_limits([100 * row[name] for row in rows[by]] + [CHANCE], _ends(rows[by], name))
        for ax, key in zip(axes, panels.keys, strict=True):
            _draw_panel(ax, view, rows[by], name, key)
            _set_bins(ax, by, rows[by])
            ax.set_ylim(max(limits[0], -3), min(limits[1], 103))
            if by == RATE:
                ax.axhline(CHANCE, color=SOFT, lw=0.9, ls=":", zorder=1)
    return panels.figure


def _bars(view: View) -> str:
    return f"{view.seeds_note_at_95}; " if len(view.study.seeds) > 1 else ""


def _ends(rows: Sequence[Row], name: str) -> list[Ends]:
    pairs = [(row[f"{name}_low"], row[f"{name}_high"]) for row in rows]
    return [(100 * low, 100 * high) for low, high in pairs if low is not None]


def _draw_panel(ax: Axes, view: View, rows: Sequence[Row], name: str, key: Key) -> None:
    own = {arm["arm"]: [row for row in rows if row["arm"] == arm["arm"]] for arm in view.arms}
    here = [arm for arm, lines in own.items() if lines and view.panel(lines[0]) == key]
    for arm, lines in own.items():
        if lines and arm not in here and view.beside(lines[0], key):
            background(ax, view, lines[0], [row["place"] for row in lines], [100 * row[name] for row in lines])
    step = WIDTH / max(1, len(here))
    for place, arm in enumerate(here):
        shift = step * (place - (len(here) - 1) / 2)
        colour = view.colour(view.level(own[arm][0]))
        x, y = [row["place"] + shift for row in own[arm]], [100 * row[name] for row in own[arm]]
        ax.plot(
            x,
            y,
            color=colour,
            lw=1.2,
            zorder=3,
            **(view.shape(view.level(own[arm][0])) or {"marker": "o", "ms": 3.5}),
        )
        for at, row in zip(x, own[arm], strict=True):
            if row[f"{name}_low"] is not None:
                ends = [100 * row[f"{name}_low"], 100 * row[f"{name}_high"]]
                ax.plot([at, at], ends, color=colour, lw=0.9, alpha=0.7, zorder=2)


def _set_bins(ax: Axes, by: str, rows: Sequence[Row]) -> None:
    """Between bins of firing rates their bounds, in percent; below quantiles their numbers."""
    ax.tick_params(labelbottom=True)
    ax.grid(axis="x", visible=False)
    if by == RATE:
        ax.set_xlim(0.5, len(RATE_BINS) + 0.5)
        ax.set_xticks([place + 0.5 for place in range(1, len(RATES))], [f"{100 * rate:g}" for rate in RATES[:-1]])
        ax.set_xlabel("firing rate, % of tokens")
        return
    last = max((row["place"] for row in rows), default=1)
    ax.set_xlim(0.5, last + 0.5)
    ax.set_xticks(range(1, last + 1))
    ax.set_xlabel("quantile of activation\n(1: weakest)")
