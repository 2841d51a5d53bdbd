"""Every arm with its interval and its seeds: outcomes side by side, held-out FVU always the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.analysis.comparability.l0 import spread
from harness.analysis.interpretability.scores import of_latents
from harness.analysis.plots.lettering import distinct, shorten
from harness.analysis.plots.notes import WIDE, axis_label, definitions_note, measured_note
from harness.analysis.plots.scales import bounded, clip_arrows, ends_of, possible, robust_limits
from harness.analysis.plots.style import INK, SOFT, grid, page
from harness.analysis.results.levels import Key
from harness.analysis.sentences.text import listed, mean
from harness.analysis.views.palette import PALETTE
from harness.analysis.views.view import Row, View
from harness.metrics import FVU, Metric

ROW = 0.235  # inches
MOST_LINES = 32
LETTERS, REMARK = 46, 10  # of a row's label, and of them for a remark


@dataclass(frozen=True)
class Line:
    """One row: an arm, an SAE of other origin, or the heading of a group of arms (neither)."""

    label: str
    colour: str
    arm: Row | None = None
    reference: Row | None = None


def draw(view: View) -> Figure | None:
    """A panel for each outcome about the reconstruction; one row per arm, grouped by the first axis."""
    return _draw(view, [outcome for outcome in view.outcomes if outcome.group == "reconstruction"])


def draw_features(view: View) -> Figure | None:
    """The same with the features that were recovered; None where the source does not know its features."""
    features = [outcome for outcome in view.outcomes if outcome.group == "features"]
    return _draw(view, [FVU, *features]) if features else None


def draw_interpretability(view: View) -> Figure | None:
    """The same with what latents mean beside their detection; None where the study does not ask for it."""
    found = of_latents(view, "fuzzing", "intruder", "direction_cosine", "found_again")
    return _draw(view, found, "What latents mean") if found else None


def _draw(view: View, outcomes: Sequence[Metric], subject: str = "") -> Figure:
    """subject: what the title says instead of the outcomes."""
    lines, note = _lines(view), _note(view, outcomes)
    every = f"of {_count(lines)} of {len(view.arms)} arms" if _count(lines) < len(view.arms) else "of every arm"
    title = f"{subject}, {every}" if subject else f"Held-out {listed([one.label for one in outcomes])} {every}"
    if _count(lines) < len(view.arms):
        note += (
            f"\nshown: the baseline and the {_count(lines) - 1} other arms with the lowest FVU, in its order; "
            f"all {len(view.arms)}: tables/arms.csv"
        )
    figure, body = page(title, note, ROW * (len(lines) + 1) + 0.6)
    axes = grid(body, 1, len(outcomes), sharey=True)[0]
    for outcome, ax in zip(outcomes, axes, strict=True):
        _draw_panel(ax, view, lines, outcome)
        ax.set_xlabel(axis_label(outcome.drawn_on(view.dead_window), outcome, len(outcomes)))
        ax.xaxis.set_major_locator(MaxNLocator(5 if len(outcomes) <= WIDE else 3, steps=[1, 2, 5, 10]))
    _label_rows(axes[0], lines)
    return figure


def _count(lines: Sequence[Line]) -> int:
    return sum(line.arm is not None for line in lines)


def _note(view: View, outcomes: Sequence[Metric]) -> str:
    dots = "; small dots: single seeds" if len(view.study.seeds) > 1 else ""
    several = view.baseline is not None and len(view.arms) > 1
    line = f"; dotted line: baseline ({view.baseline['arm']})" if view.baseline and several else ""
    others = "; hollow diamonds: SAEs that this study has not trained" if view.references else ""
    return (
        f"{view.seeds_note}; {measured_note(view, outcomes)}{dots}{line}{others}{definitions_note(view, outcomes)}"
    )


def _lines(view: View) -> list[Line]:
    """Arms in groups, under a heading each where more than one axis varies; of many arms the best, by FVU."""
    headings = len(view.hues) if view.rest else 0
    if len(view.arms) + headings + len(view.references) <= MOST_LINES:
        lines = _grouped(view)
    else:
        lines = _ranked(view, MOST_LINES - min(len(view.references), MOST_LINES // 4))
    references = view.references[: MOST_LINES // 4]
    names = distinct([name for name, _ in references], LETTERS)
    return lines + [Line(name, SOFT, reference=row) for name, (_, row) in zip(names, references, strict=True)]


def _grouped(view: View) -> list[Line]:
    lines: list[Line] = []
    for level in view.hues:
        arms = [arm for arm in view.arms if view.level(arm) == level]
        colour = view.colour(level)
        names = [view.level_label(level)] * len(arms)
        if view.rest:
            lines.append(Line(shorten(view.level_label(level), LETTERS - REMARK), colour))
            names = distinct([view.combination_label(view.combination(arm)) for arm in arms], LETTERS - REMARK)
        lines += [
            Line((name or view.level_label(level)) + _remark(view, arm), colour, arm)
            for name, arm in zip(names, arms, strict=True)
        ]
    return lines


def _ranked(view: View, most: int) -> list[Line]:
    arms: dict[Key, Row] = {(arm["arm"],): arm for arm in view.arms}
    chosen = [arms[key] for key in view.best(list(arms), lambda arm: (arm["arm"],), most)]
    chosen.sort(key=lambda arm: math.inf if arm[FVU.name] is None else float(arm[FVU.name]))
    names = distinct([arm["arm"] for arm in chosen], LETTERS - REMARK)
    return [
        Line(name + _remark(view, arm), PALETTE[0 if arm is view.baseline else 1], arm)
        for name, arm in zip(names, chosen, strict=True)
    ]


def _remark(view: View, arm: Row) -> str:
    notes = [f"n = {arm['n']}"] if arm["n"] < len(view.study.seeds) else []
    if view.baseline is not None and spread(view.study, [view.baseline, arm]):
        notes.append(f"L0 {arm['l0']:.2f}")
    return f" ({', '.join(notes)})" if notes else ""


def _draw_panel(ax: Axes, view: View, lines: Sequence[Line], outcome: Metric) -> None:
    arms = [line.arm for line in lines if line.arm is not None]
    seeds: dict[str, list[float]] = {arm["arm"]: [] for arm in arms}
    for row in view.tables["seeds"]:
        if row[outcome.name] is not None and row["arm"] in seeds:
            seeds[row["arm"]].append(outcome.scale * row[outcome.name])
    points = [value for values in seeds.values() for value in values]
    ax.set_xlim(*bounded(outcome, *robust_limits(points, ends_of(arms, outcome.name, outcome.scale))))
    for y, line in enumerate(lines):
        if line.arm is not None:
            _draw_arm(ax, y, line.arm, seeds[line.arm["arm"]], outcome, line.colour)
            if line.arm is view.baseline and line.arm[outcome.name] is not None:
                ax.axvline(outcome.scale * line.arm[outcome.name], color=SOFT, lw=0.9, ls=":", zorder=1)
        elif line.reference is not None:
            _draw_reference(ax, y, line.reference, outcome)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)


def _after(ax: Axes) -> dict[str, Any]:
    """Where and how the number behind a row is written."""
    return {"transform": ax.get_yaxis_transform(), "va": "center_baseline", "fontsize": 8.5}


def _draw_arm(ax: Axes, y: float, arm: Row, seeds: list[float], outcome: Metric, colour: str) -> None:
    middle, low, high = (arm[f"{outcome.name}{end}"] for end in ("", "_low", "_high"))
    if middle is None:
        ax.text(1.02, y, "not measured" if arm["n"] else "no result", color=SOFT, **_after(ax))
        return
    if low is not None and high is not None:
        low, high = outcome.scale * low, outcome.scale * high
        ax.plot([low, high], [y, y], color=colour, lw=1.5, solid_capstyle="butt", zorder=2)
        clip_arrows(ax, y, *possible(outcome, low, high), colour)
    if len(seeds) > 1:
        ax.scatter(seeds, [y + 0.29] * len(seeds), s=5, color=colour, alpha=0.65, lw=0, zorder=3)
    ax.plot([outcome.scale * middle], [y], "o", ms=5.5, mfc=colour, mew=0, zorder=4)
    ax.text(1.02, y, mean(arm, outcome), color=INK, **_after(ax))


def _draw_reference(ax: Axes, y: float, row: Row, outcome: Metric) -> None:
    """An SAE of other origin: no seeds, no interval; an arrow where its value lies outside of the arms' range."""
    value = row[outcome.name]
    if value is not None:
        ax.plot([outcome.scale * value], [y], "D", ms=5, mfc="white", mec=SOFT, mew=1.1, zorder=4)
        clip_arrows(ax, y, outcome.scale * value, outcome.scale * value, SOFT)
    ax.text(1.02, y, mean(row, outcome) if value is not None else "not measured", color=SOFT, **_after(ax))


def _label_rows(ax: Axes, lines: Sequence[Line]) -> None:
    ax.set_yticks(range(len(lines)), [line.label for line in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    for line, text in zip(lines, ax.get_yticklabels(), strict=True):
        if line.arm is None and line.reference is None:
            text.set(fontweight="bold", color=line.colour)
        elif line.reference is not None:
            text.set(color=SOFT)
