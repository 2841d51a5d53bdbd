"""The search inside each arm: is the chosen setting inside its list, and how much hangs on it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.analysis.plots.panels import background, left_out, small_multiples
from harness.analysis.plots.scales import LOG_RATIO, bounded, logarithmic, robust_limits
from harness.analysis.plots.style import INK, SOFT
from harness.analysis.results.levels import Key, column
from harness.analysis.sentences.text import plural
from harness.analysis.views.view import Row, View, unique
from harness.metrics import FVU
from harness.study.labels import describe, show

HEIGHT = 2.5  # inches
STYLES = ("-", "--", ":", "-.")  # of the lines of one arm: more are not drawn
MOST_TICKS = 4


def draw(view: View) -> Figure | None:
    """FVU against the (first) tuned value, a line an arm; None where nothing was tuned."""
    shown, others = set(view.shown_panels), _shown_others(view)
    rows = [row for row in view.tables["tuning"] if view.panel(row) in shown and _others(view, row) in others]
    if not any(row["fvu"] is not None for row in rows):
        return None
    axis = view.study.tuned[0]
    panels = small_multiples(
        view,
        f"The search inside each arm: {FVU.axis} against {axis}",
        _note(view) + _styles_note(view) + left_out(view, "tuning"),
        [FVU.axis],
        HEIGHT,
        _style_legend(view),
    )
    for ax, key in zip(panels.rows[0], panels.keys, strict=True):
        here = [row for row in rows if view.panel(row) == key]
        beside = [row for row in rows if view.beside(row, key)]
        for arm in unique(row["arm"] for row in beside):
            other = [row for row in beside if row["arm"] == arm]
            if {_x(view, row) for row in other} == {_x(view, row) for row in here}:
                _draw_background(ax, view, other)
        for arm in unique(row["arm"] for row in here):
            _draw_arm(ax, view, [row for row in here if row["arm"] == arm])
        _set_scales(ax, view, rows, here)
        ax.set_xlabel(axis)
    return panels.figure


def _note(view: View) -> str:
    marks = "line: mean; dots: single seeds; ring: chosen; × on top: a seed has no result"
    if view.many_arms:
        marks += "; thin lines: arms that were searched over the same values"
    if view.names_note:
        marks += f"; {view.names_note}"
    on = f"on {view.study.heldout_tokens:,} held-out tokens"
    if view.study.tuning_seeds:
        return f"n = {plural(len(view.study.tuning_seeds), 'seed')} for the search alone; {marks}; {on}"
    return f"n = {plural(len(view.study.seeds), 'seed')}; {marks}; {on}"


def _draw_background(ax: Axes, view: View, rows: Sequence[Row]) -> None:
    for others in unique(_others(view, row) for row in rows):
        line = _line(view, rows, others)
        background(ax, view, rows[0], [_x(view, row) for row in line], [row["fvu"] for row in line])


def _draw_arm(ax: Axes, view: View, rows: Sequence[Row]) -> None:
    colour, shape = view.colour(view.level(rows[0])), view.shape(view.level(rows[0])).get("marker", "o")
    for place, others in enumerate(_shown_others(view)):
        line = _line(view, rows, others)
        x = [_x(view, row) for row in line]
        ax.plot(x, [row["fvu"] for row in line], STYLES[place % len(STYLES)], color=colour, lw=1.4)
    for row in rows:
        if row["lost"]:
            ax.plot([_x(view, row)], [0.95], "x", ms=5, color=colour, transform=ax.get_xaxis_transform())
        if row["chosen"] and row["fvu"] is not None:
            ax.plot([_x(view, row)], [row["fvu"]], "o", ms=8.5, mfc="none", mec=INK, mew=1.0, zorder=4)
    for cell in _searched(view, rows):
        ax.plot([_x(view, cell)], [cell["score"]], shape, ms=3.2, mfc=colour, mew=0, alpha=0.7, zorder=3)


def _line(view: View, rows: Sequence[Row], others: Key) -> list[Row]:
    """An arm's rows of one line, from left to right.

    The table keeps the order in which the values were tried: one below the list that the search added comes last.
    """
    line = [row for row in rows if _others(view, row) == others and row["fvu"] is not None]
    return sorted(line, key=lambda row: _x(view, row))


def _searched(view: View, rows: Sequence[Row]) -> list[Row]:
    """The cells that an arm's rows of the tuning table are means of."""
    seeds = view.study.tuning_seeds if view.study.tuning_seeds and len(rows) > 1 else view.study.seeds
    known = [cell for cell in view.tables["cells"] if cell["score"] is not None and cell["seed"] in seeds]
    others = _shown_others(view)
    return [
        cell
        for cell in known
        if _others(view, cell) in others
        and all(cell[column(axis)] == rows[0][column(axis)] for axis in view.study.compared)
    ]


def _x(view: View, row: Row) -> float:
    """Where a setting stands: its first tuned value, or the place in the list of one that is no number."""
    axis = view.study.tuned[0]
    level = row[column(axis)]
    return float(level) if _numeric(view) else float(view.study.axes[axis].index(level))


def _numeric(view: View) -> bool:
    levels = view.study.axes[view.study.tuned[0]]
    return all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)


def _others(view: View, row: Row) -> Key:
    """The values of all tuned axes but the first: they make the lines of one arm."""
    return tuple(row[column(axis)] for axis in view.study.tuned[1:])


def _set_scales(ax: Axes, view: View, rows: Sequence[Row], here: Sequence[Row]) -> None:
    """The same limits of FVU in all panels, with ticks at the values that this panel's arms were tried at."""
    shown = set(view.shown_panels)
    cells = [cell for cell in view.tables["cells"] if view.panel(cell) in shown]
    values = [cell["score"] for cell in cells if cell["score"] is not None]
    low, high = bounded(FVU, *robust_limits(values))
    high += 0.12 * (high - low)  # room for the crosses
    if min(values) > 0 and high / min(values) > LOG_RATIO / 2:
        low = min(values) / 1.1
        high = max(values) * (max(values) / low) ** 0.15
        ax.set_yscale("log")
        logarithmic(ax.yaxis, low, high)
    ax.set_ylim(low, high)
    # a panel of one arm needs no room for the lists of the others
    everywhere = sorted({_x(view, row) for row in (here if view.many_arms else rows)})
    if _numeric(view) and everywhere[0] > 0 and everywhere[-1] / everywhere[0] > LOG_RATIO:
        ax.set_xscale("log")
        ax.set_xlim(everywhere[0] / 1.5, everywhere[-1] * 1.5)
    else:
        margin = 0.15 * (everywhere[-1] - everywhere[0]) or 1.0
        ax.set_xlim(everywhere[0] - margin, everywhere[-1] + margin)
    tried = {_x(view, row): show(row[column(view.study.tuned[0])]) for row in here}
    kept = sorted(tried)[:: -(-len(tried) // MOST_TICKS)]
    ax.set_xticks(kept, [tried[x] for x in kept])
    ax.set_xticks([], minor=True)


def _all_others(view: View) -> list[Key]:
    return unique(_others(view, row) for row in view.tables["tuning"])


def _shown_others(view: View) -> list[Key]:
    """The values of the other tuned axes that have a line: those that are chosen most often, in their order."""
    chosen = Counter(_others(view, row) for row in view.tables["tuning"] if row["chosen"])
    shown = sorted(_all_others(view), key=lambda others: -chosen[others])[: len(STYLES)]
    return [others for others in _all_others(view) if others in shown]


def _styles_note(view: View) -> str:
    shown, total = len(_shown_others(view)), len(_all_others(view))
    if shown == total:
        return ""
    axes = ", ".join(view.study.tuned[1:])
    return f"\nlines: the {shown} values of {axes} that were chosen most often; all {total}: tables/tuning.csv"


def _style_legend(view: View) -> list[Line2D]:
    if len(view.study.tuned) < 2:
        return []
    handles = []
    for place, others in enumerate(_shown_others(view)):
        label = describe(dict(zip(view.study.tuned[1:], others, strict=True)))
        handles.append(Line2D([], [], ls=STYLES[place % len(STYLES)], color=SOFT, lw=1.4, label=label))
    return handles
