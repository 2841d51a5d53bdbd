"""What each level does: paired differences with intervals around zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.analysis.l0 import against, unequal
from harness.analysis.level_effects import effects_by_level
from harness.analysis.plots.notes import WIDE, axis_label, definitions_note
from harness.analysis.plots.scales import clip_arrows, ends_of, robust_limits
from harness.analysis.style import HIGHER, INK, LEVEL, LOWER, SOFT, grid, page
from harness.analysis.text import signed
from harness.analysis.view import Row, View
from harness.metrics import FVU, Metric

ROW = 0.215  # inches
COLOURS = {"better": LOWER, "worse": HIGHER, "level": LEVEL}


@dataclass(frozen=True)
class Line:
    """One row of the forest: a heading (no effect), a level's main row, or a pair of arms."""

    text: str
    kind: str
    effect: Row | None = None


def draw(view: View) -> Figure | None:
    """A forest plot; a level's average over its pairs is bold, the pairs it consists of follow."""
    outcomes = [outcome for outcome in view.outcomes if outcome.group == "reconstruction"]
    return _draw(view, "What each level changes, all other settings equal", outcomes)


def draw_features(view: View) -> Figure | None:
    """The same for the features that were recovered; None where the source does not know its features."""
    features = [outcome for outcome in view.outcomes if outcome.group == "features"]
    if not features:
        return None
    return _draw(view, "What each level changes in recovered features, all other settings equal", [FVU, *features])


def _draw(view: View, title: str, outcomes: Sequence[Metric]) -> Figure | None:
    lines = _lines(view)
    if not lines:
        return None
    note = f"paired by seed; {view.seeds_note}; {view.heldout_note}; points: percentage points"
    if any(line.kind == "pair" for line in lines):
        note += "; bold: mean over the pairs of arms below it"
    note += definitions_note(view, outcomes)
    figure, body = page(title, note, ROW * (len(lines) + 1) + 0.6, _legend(view))
    axes = grid(body, 1, len(outcomes), sharey=True)[0]
    for ax, outcome in zip(axes, outcomes, strict=True):
        _draw_panel(ax, lines, outcome)
        changed = ", ".join(part for part in (outcome.label, outcome.change_unit) if part)
        words = f"change of {changed}" if len(outcomes) <= WIDE else f"change of\n{changed}"
        ax.set_xlabel(axis_label(words, outcome, len(outcomes)))
        ax.xaxis.set_major_locator(MaxNLocator(6 if len(outcomes) <= WIDE else 3, steps=[1, 2, 5, 10]))
    _label_rows(axes[0], lines)
    return figure


def _legend(view: View) -> list[Line2D]:
    if len(view.study.seeds) == 1:
        return []
    entries = (("better", LOWER), ("worse", HIGHER), ("level at this budget: the interval contains 0", LEVEL))
    return [Line2D([], [], color=c, marker="o", ms=5, lw=1.8, label=label) for label, c in entries]


def _lines(view: View) -> list[Line]:
    """The effects in the order of their table, under a heading for each axis."""
    lines: list[Line] = []
    for effect in effects_by_level(view):
        heading = f"{effect.axis}, against {effect.reference}"
        if heading not in (line.text for line in lines):
            lines.append(Line(heading, "heading"))
        if effect.marginal is not None:
            lines.append(Line(effect.level + _note(view, effect.marginal), "marginal", effect.marginal))
            lines += [Line(pair["holding"] + _note(view, pair), "pair", pair) for pair in effect.pairs]
            continue
        for pair in effect.pairs:
            name = f"{effect.level} ({pair['holding']})" if pair["holding"] else effect.level
            lines.append(Line(name + _note(view, pair), "marginal", pair))
    return lines


def _note(view: View, effect: Row) -> str:
    notes = [f"n = {effect['n']}"] if effect["n"] < len(view.study.seeds) else []
    if unequal(view.study, effect):
        notes.append(f"L0 {against(effect)}")
    return f" ({', '.join(notes)})" if notes else ""


def _draw_panel(ax: Axes, lines: list[Line], outcome: Metric) -> None:
    column = outcome.effect
    effects = [line.effect for line in lines if line.effect is not None and line.effect[column] is not None]
    ax.set_xlim(*robust_limits([0.0, *(e[column] for e in effects)], ends_of(effects, column)))
    ax.axvline(0, color=INK, lw=0.9, zorder=1)
    for y, line in enumerate(lines):
        if line.effect is not None:
            _draw_effect(ax, y, line, column, COLOURS[outcome.judge(line.effect[outcome.verdict])])
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)


def _draw_effect(ax: Axes, y: float, line: Line, column: str, colour: str) -> None:
    assert line.effect is not None
    mean, low, high = (line.effect[f"{column}{end}"] for end in ("", "_low", "_high"))
    bold = line.kind == "marginal"
    after: dict[str, Any] = {
        "transform": ax.get_yaxis_transform(),
        "va": "center_baseline",
        "fontsize": 8.5 if bold else 7.5,
    }
    if mean is None:
        ax.text(1.02, y, "no result", color=SOFT, **after)
        return
    if low is not None:
        ax.plot([low, high], [y, y], color=colour, lw=2.0 if bold else 1.1, solid_capstyle="butt", zorder=2)
        clip_arrows(ax, y, low, high, colour)
    ax.plot([mean], [y], "o", ms=6 if bold else 4, mfc=colour, mew=0, zorder=4)
    ax.text(1.02, y, signed(mean), color=INK if bold else SOFT, **after)


def _label_rows(ax: Axes, lines: list[Line]) -> None:
    ax.set_yticks(range(len(lines)), [line.text for line in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    for line, text in zip(lines, ax.get_yticklabels(), strict=True):
        if line.kind == "heading":
            text.set(fontweight="bold")
        elif line.kind == "pair":
            text.set(fontsize=7.5, color=SOFT)
