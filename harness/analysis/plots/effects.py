"""What each level does: differences with intervals around zero (a forest plot)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.analysis.comparability.l0 import against, unequal
from harness.analysis.interpretability.scores import ANSWERED, of_latents
from harness.analysis.plots.lettering import distinct, shorten
from harness.analysis.plots.notes import WIDE, axis_label, definitions_note, measured_note
from harness.analysis.plots.scales import clip_arrows, ends_of, robust_limits
from harness.analysis.plots.style import INK, PALE, SOFT, grid, page
from harness.analysis.plots.verdicts import legend, mark_of
from harness.analysis.sentences.text import listed, plural, signed
from harness.analysis.views.level_effects import LevelEffect, effects_by_level
from harness.analysis.views.series import series
from harness.analysis.views.view import Row, View, unique
from harness.metrics import FVU, Metric

ROW = 0.215  # inches
MOST_LINES = 34
LETTERS = 46  # of a row's label


@dataclass(frozen=True)
class Line:
    """One row of the forest: a heading (no effect), a level's main row, or a pair of arms.

    `within`: the pairs that a main row averages over, where they have no rows of their own.
    """

    text: str
    kind: str
    effect: Row | None = None
    within: list[Row] = field(default_factory=list)


def draw(view: View) -> Figure | None:
    """A forest plot; a level's average over its pairs is large, the pairs it consists of follow."""
    outcomes = [outcome for outcome in view.outcomes if outcome.group == "reconstruction"]
    return _draw(view, "What each level changes, all other settings equal", outcomes)


def draw_features(view: View) -> Figure | None:
    """The same for the features that were recovered; None where the source does not know its features."""
    features = [outcome for outcome in view.outcomes if outcome.group == "features"]
    if not features:
        return None
    return _draw(view, "What each level changes in recovered features, all other settings equal", [FVU, *features])


def draw_interpretability(view: View) -> Figure | None:
    """The same for what latents mean; None where the study does not ask for it."""
    found = of_latents(view, *ANSWERED, "found_again")
    return _draw(view, "What each level changes in what latents mean", found) if found else None


def _draw(view: View, title: str, outcomes: Sequence[Metric]) -> Figure | None:
    effects, elsewhere = _of_words(view)
    lines, left_out = _fitting(view, effects)
    if not lines:
        return None
    several = len(view.study.seeds) > 1
    note = f"{view.seeds_note}{'; verdicts by Holm’s method' if several else ''}; {measured_note(view, outcomes)}"
    note += "; points: percentage points"
    if any(line.kind == "pair" for line in lines):
        note += "; large: mean over the pairs of arms below it"
    if any(line.within for line in lines):
        note += "; small dots: the pairs of arms that a row is the mean of"
    if any(_differs(line.effect, outcome) for line in lines if line.effect for outcome in outcomes):
        note += "; differ: the effects in the row's pairs differ, which is why their range is shown and no mean"
    if elsewhere:
        note += f"\n{listed(elsewhere)}: see the figure of outcomes against {'them' if elsewhere[1:] else 'it'}"
    note += left_out + definitions_note(view, outcomes)
    rows = [line.effect for line in lines if line.effect is not None]
    marks = [mark_of(outcome, row[outcome.verdict]) for row in rows for outcome in outcomes]
    figure, body = page(title, note, ROW * (len(lines) + 1) + 0.6, legend(marks) if several else [])
    axes = grid(body, 1, len(outcomes), sharey=True)[0]
    for ax, outcome in zip(axes, outcomes, strict=True):
        _draw_panel(ax, lines, outcome)
        changed = ", ".join(part for part in (outcome.label, outcome.change_unit) if part)
        words = f"change of {changed}" if len(outcomes) <= WIDE else f"change of\n{changed}"
        ax.set_xlabel(axis_label(words, outcome, len(outcomes)))
        ax.xaxis.set_major_locator(MaxNLocator(6 if len(outcomes) <= WIDE else 3, steps=[1, 2, 5, 10]))
    _label_rows(axes[0], lines)
    return figure


def _of_words(view: View) -> tuple[list[LevelEffect], list[str]]:
    """The effects without those of axes of numbers, which another figure has, and these axes; all if no others."""
    effects = effects_by_level(view)
    numeric = {one.axis for one in series(view) if one.field is None}
    kept = [effect for effect in effects if effect.axis not in numeric]
    if not kept:
        return effects, []
    return kept, [axis for axis in unique(effect.axis for effect in effects) if axis in numeric]


def _fitting(view: View, effects: Sequence[LevelEffect]) -> tuple[list[Line], str]:
    """All rows; or, where they are too many, without those of pairs, and then of the levels the best by FVU."""
    lines = list(_lines(view, effects, pairs=True))
    if len(lines) <= MOST_LINES:
        return lines, ""
    lines = list(_lines(view, effects, pairs=False))
    if len(lines) <= MOST_LINES:
        pairs = sum(len(effect.pairs) for effect in effects)
        return lines, f"\nnot shown with their intervals: {plural(pairs, 'pair')} of arms, see tables/effects.csv"
    kept = _best(effects)
    shown, total = len(unique((e.axis, e.level) for e in kept)), len(unique((e.axis, e.level) for e in effects))
    lines = list(_lines(view, kept, pairs=False))[:MOST_LINES]
    note = f"of each axis the levels with the lowest FVU, {shown} of {total}; all: tables/effects.csv"
    return lines, f"\nshown: {note}"


def _best(effects: Sequence[LevelEffect]) -> list[LevelEffect]:
    """The same number of levels of each axis; an axis that has fewer leaves its room to the others."""
    axes = unique(effect.axis for effect in effects)[: MOST_LINES // 3]
    by_axis = {axis: [effect for effect in effects if effect.axis == axis] for axis in axes}
    room, kept = MOST_LINES - len(axes), set[tuple[str, str]]()
    for left, (axis, group) in enumerate(sorted(by_axis.items(), key=lambda item: len(item[1]))):
        share = room // (len(axes) - left)
        best = sorted(group, key=lambda effect: effect.change)[:share]
        room -= len(best)
        kept |= {(axis, effect.level) for effect in best}
    return [effect for effect in effects if (effect.axis, effect.level) in kept]


def _lines(view: View, effects: Sequence[LevelEffect], pairs: bool) -> Iterator[Line]:
    """The effects in the order of their table, under a heading for each axis."""
    heading = ""
    for effect in effects:
        if heading != (heading := f"{shorten(effect.axis, 24)}, against {shorten(effect.reference, 24)}"):
            yield Line(heading, "heading")
        if effect.marginal is not None:
            text = shorten(effect.level, LETTERS) + _remark(view, effect.marginal)
            yield Line(text, "marginal", effect.marginal, [] if pairs else effect.pairs)
            names = distinct([pair["holding"] for pair in effect.pairs], LETTERS)
            for name, pair in zip(names, effect.pairs, strict=True) if pairs else ():
                yield Line(name + _remark(view, pair), "pair", pair)
            continue
        for pair in effect.pairs:
            name = f"{effect.level} ({pair['holding']})" if pair["holding"] else effect.level
            yield Line(shorten(name, LETTERS) + _remark(view, pair), "marginal", pair)


def _remark(view: View, effect: Row) -> str:
    notes = [f"n = {effect['n']}"] if effect["n"] < len(view.study.seeds) else []
    if unequal(view.study, effect):
        notes.append(f"L0 {against(effect)}")
    return f" ({', '.join(notes)})" if notes else ""


def _draw_panel(ax: Axes, lines: list[Line], outcome: Metric) -> None:
    column = outcome.effect
    effects = [line.effect for line in lines if line.effect is not None]
    within = [pair for line in lines for pair in line.within]
    points = [row[column] for row in (*effects, *within) if row[column] is not None]
    ax.set_xlim(*robust_limits([0.0, *points], ends_of(effects, column)))
    ax.axvline(0, color=INK, lw=0.9, zorder=1)
    for y, line in enumerate(lines):
        if line.effect is not None:
            _draw_effect(ax, y, line, outcome)
            pairs = [pair[column] for pair in line.within if pair[column] is not None]
            ax.scatter(pairs, [y + 0.32] * len(pairs), s=5, color=SOFT, alpha=0.65, lw=0, zorder=3)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)


def _differs(effect: Row, outcome: Metric) -> bool:
    """Whether the contexts that a marginal row averages over have different effects (see `contexts`)."""
    return bool(effect.get(f"{outcome.short}_contexts_differ"))


def _draw_effect(ax: Axes, y: float, line: Line, outcome: Metric) -> None:
    assert line.effect is not None
    column, mark = outcome.effect, mark_of(outcome, line.effect[outcome.verdict])
    mean, low, high = (line.effect[f"{column}{end}"] for end in ("", "_low", "_high"))
    large = line.kind == "marginal"
    after: dict[str, Any] = {
        "transform": ax.get_yaxis_transform(),
        "va": "center_baseline",
        "fontsize": 8.5 if large else 7.5,
    }
    if mean is None:
        ax.text(1.02, y, "no result", color=SOFT, **after)
        return
    if _differs(line.effect, outcome):
        ends = [line.effect[f"{outcome.short}_contexts_{end}"] for end in ("low", "high")]
        ax.plot(ends, [y, y], color=PALE, lw=4.0, solid_capstyle="butt", zorder=1.5)
        ax.text(1.02, y, "differ", color=INK, **after)
        return
    if low is not None and high is not None:
        ax.plot([low, high], [y, y], color=mark.colour, lw=2.0 if large else 1.1, solid_capstyle="butt", zorder=2)
        clip_arrows(ax, y, low, high, mark.colour)
    ax.plot([mean], [y], lw=0, zorder=4, **mark.style(6 if large else 4))
    ax.text(1.02, y, signed(mean, outcome.change_digits), color=INK if large else SOFT, **after)


def _label_rows(ax: Axes, lines: list[Line]) -> None:
    ax.set_yticks(range(len(lines)), [line.text for line in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    for line, text in zip(lines, ax.get_yticklabels(), strict=True):
        if line.kind == "heading":
            text.set(fontweight="bold")
        elif line.kind == "pair":
            text.set(fontsize=7.5, color=SOFT)
