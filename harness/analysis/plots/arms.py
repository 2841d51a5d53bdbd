"""Every arm with its interval and its seeds: outcomes side by side, held-out FVU always the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.analysis.l0 import spread
from harness.analysis.plots.notes import WIDE, axis_label, definitions_note
from harness.analysis.plots.scales import bounded, clip_arrows, ends_of, possible, robust_limits
from harness.analysis.style import INK, SOFT, grid, page
from harness.analysis.text import listed, mean
from harness.analysis.view import Row, View
from harness.metrics import FVU, Metric

ROW = 0.235  # inches


def draw(view: View) -> Figure | None:
    """A panel for each outcome about the reconstruction; one row per arm, grouped by the first axis."""
    return _draw(view, [outcome for outcome in view.outcomes if outcome.group == "reconstruction"])


def draw_features(view: View) -> Figure | None:
    """The same with the features that were recovered; None where the source does not know its features."""
    features = [outcome for outcome in view.outcomes if outcome.group == "features"]
    return _draw(view, [FVU, *features]) if features else None


def _draw(view: View, outcomes: Sequence[Metric]) -> Figure:
    title = f"Held-out {listed([outcome.label for outcome in outcomes])} of every arm"
    lines = _lines(view)
    dots = "; small dots: single seeds" if len(view.study.seeds) > 1 else ""
    several = view.baseline is not None and len(view.arms) > 1
    line = f"; dotted line: baseline ({view.baseline['arm']})" if view.baseline and several else ""
    note = f"{view.seeds_note}; {view.heldout_note}{dots}{line}{definitions_note(view, outcomes)}"
    figure, body = page(title, note, ROW * (len(lines) + 1) + 0.6)
    axes = grid(body, 1, len(outcomes), sharey=True)[0]
    for outcome, ax in zip(outcomes, axes, strict=True):
        _draw_panel(ax, view, lines, outcome)
        ax.set_xlabel(axis_label(outcome.drawn_on(view.dead_window), outcome, len(outcomes)))
        ax.xaxis.set_major_locator(MaxNLocator(5 if len(outcomes) <= WIDE else 3, steps=[1, 2, 5, 10]))
    _label_rows(axes[0], view, lines)
    return figure


def _lines(view: View) -> list[Row | str]:
    """Arms in groups; where more than one axis varies, each group has a heading."""
    lines: list[Row | str] = []
    for level in view.hues:
        if view.rest:
            lines.append(view.level_label(level))
        lines += [arm for arm in view.arms if view.level(arm) == level]
    return lines


def _draw_panel(ax: Axes, view: View, lines: list[Row | str], outcome: Metric) -> None:
    arms = [line for line in lines if not isinstance(line, str)]
    seeds: dict[str, list[float]] = {arm["arm"]: [] for arm in arms}
    for row in view.tables["seeds"]:
        if row[outcome.name] is not None:
            seeds[row["arm"]].append(outcome.scale * row[outcome.name])
    points = [value for values in seeds.values() for value in values]
    ax.set_xlim(*bounded(outcome, *robust_limits(points, ends_of(arms, outcome.name, outcome.scale))))
    for y, line in enumerate(lines):
        if not isinstance(line, str):
            _draw_arm(ax, y, line, seeds[line["arm"]], outcome, view.colour(view.level(line)))
            if line is view.baseline and line[outcome.name] is not None:
                ax.axvline(outcome.scale * line[outcome.name], color=SOFT, lw=0.9, ls=":", zorder=1)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)


def _draw_arm(ax: Axes, y: float, arm: Row, seeds: list[float], outcome: Metric, colour: str) -> None:
    middle, low, high = (arm[f"{outcome.name}{end}"] for end in ("", "_low", "_high"))
    after: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center_baseline", "fontsize": 8.5}
    if middle is None:
        ax.text(1.02, y, "not measured" if arm["n"] else "no result", color=SOFT, **after)
        return
    if low is not None:
        low, high = outcome.scale * low, outcome.scale * high
        ax.plot([low, high], [y, y], color=colour, lw=1.5, solid_capstyle="butt", zorder=2)
        clip_arrows(ax, y, *possible(outcome, low, high), colour)
    if len(seeds) > 1:
        ax.scatter(seeds, [y + 0.29] * len(seeds), s=5, color=colour, alpha=0.65, lw=0, zorder=3)
    ax.plot([outcome.scale * middle], [y], "o", ms=5.5, mfc=colour, mew=0, zorder=4)
    ax.text(1.02, y, mean(arm, outcome), color=INK, **after)


def _label_rows(ax: Axes, view: View, lines: list[Row | str]) -> None:
    labels = [line if isinstance(line, str) else _arm_label(view, line) for line in lines]
    ax.set_yticks(range(len(lines)), labels)
    ax.set_ylim(len(lines) - 0.4, -0.6)
    for line, text in zip(lines, ax.get_yticklabels(), strict=True):
        if isinstance(line, str):
            first = next(arm for arm in view.arms if view.level_label(view.level(arm)) == line)
            text.set(fontweight="bold", color=view.colour(view.level(first)))


def _arm_label(view: View, arm: Row) -> str:
    name = view.combination_label(view.combination(arm)) or view.level_label(view.level(arm))
    notes = [f"n = {arm['n']}"] if arm["n"] < len(view.study.seeds) else []
    if view.baseline is not None and spread(view.study, [view.baseline, arm]):
        notes.append(f"L0 {arm['l0']:.2f}")
    return f"{name} ({', '.join(notes)})" if notes else name
