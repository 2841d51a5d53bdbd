"""How well latents are explained against held-out FVU: do arms buy one with the other, and is it beyond a null?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.analysis.interpretability.scores import ANSWERED, CHANCE, brief_note, latents_note, nulls, of_latents
from harness.analysis.plots.panels import arm_marker, colour_legend, marker_legend
from harness.analysis.plots.scales import LOG_RATIO, bounded, ends_of, logarithmic, possible, robust_limits
from harness.analysis.plots.style import PALE, SOFT, grid, page
from harness.analysis.results.records import Null
from harness.analysis.sentences.text import number
from harness.analysis.views.palette import PALETTE
from harness.analysis.views.view import Row, View
from harness.metrics import FVU, Metric

SHOWN = ("detection", "detection_alive", *ANSWERED[1:])
HEIGHT = 2.5  # inches, of a row of panels
COLUMNS = 2
CROWD = 40  # arms: where there are more, only the baseline has its intervals
Dashes: TypeAlias = tuple[int, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = (
    (0, (5, 1.5)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (2, 1.2)),
    (0, (9, 2)),
    (0, (5, 1.5, 1, 1.5, 1, 1.5)),
)


def draw(view: View) -> Figure | None:
    """A panel for each way to count latents; lines: what has the same score without any meaning to find."""
    scores = of_latents(view, *SHOWN)
    arms = [arm for arm in view.arms if arm[FVU.name] is not None and any(_has(arm, one) for one in scores)]
    if not scores or not arms:
        return None
    lines = {name: one for name, one in nulls(view).items() if any(_has(one.figures, s) for s in scores)}
    note = f"{view.seeds_note}; FVU {view.heldout_note}; {latents_note(view)}; upper left is better"
    note += f"{brief_note(scores)}\ndotted: chance"
    if lines:
        note += "; broken lines: nulls, what scores without meaning come to; bands: their 95 % intervals"
    colours = colour_legend(view, shapes=not view.has_markers)
    legends: list[Sequence[Artist]] = [colours, marker_legend(view), _null_legend(lines)]
    rows = -(-len(scores) // COLUMNS)
    title = "Interpretability against held-out FVU"
    figure, body = page(title, note, HEIGHT * rows + 0.3, *(legend for legend in legends if legend))
    columns = min(COLUMNS, len(scores))
    axes = [ax for row in grid(body, rows, columns, sharex=True, sharey=True) for ax in row]
    for ax, score in zip(axes, scores, strict=False):
        _draw_panel(ax, view, [arm for arm in arms if _has(arm, score)], score, lines)
    for place, ax in enumerate(axes):
        ax.set_visible(place < len(scores))
        ax.tick_params(labelbottom=place >= len(scores) - columns)
        if place >= len(scores) - columns:
            ax.set_xlabel(FVU.axis)
        if place % columns == 0:
            ax.set_ylabel("balanced accuracy, %")
    _set_limits(axes[0], arms, scores, lines.values())
    return figure


def _has(figures: Mapping[str, object], metric: Metric) -> bool:
    return figures.get(metric.name) is not None


def _null_legend(lines: Mapping[str, Null]) -> list[Artist]:
    return [
        Line2D([], [], color=SOFT, lw=1.2, ls=DASHES[place % len(DASHES)], label=_null_label(one))
        for place, one in enumerate(lines.values())
    ]


def _null_label(null: Null) -> str:
    """Its name with its FVU, which need not lie within the panels."""
    fvu = null.figures.get(FVU.name)
    return null.label if fvu is None else f"{null.label} (FVU {number(fvu, 2)})"


def _draw_panel(ax: Axes, view: View, arms: Sequence[Row], score: Metric, lines: Mapping[str, Null]) -> None:
    ax.set_title(score.label)
    ax.axhline(CHANCE, color=SOFT, lw=0.9, ls=":", zorder=1)
    for place, null in enumerate(lines.values()):
        if _has(null.figures, score):
            _draw_null(ax, null, score, DASHES[place % len(DASHES)])
    for arm in arms:
        _draw_arm(ax, view, arm, score)


def _draw_null(ax: Axes, null: Null, score: Metric, dashes: Dashes) -> None:
    """Its line, and the band of its interval."""
    low, high = null.low.get(score.name), null.high.get(score.name)
    if low is not None and high is not None:
        ax.axhspan(score.scale * low, score.scale * high, color=PALE, alpha=0.3, lw=0, zorder=0.5)
    ax.axhline(score.scale * float(null.figures[score.name] or 0), color=SOFT, lw=1.2, ls=dashes, zorder=1)


def _draw_arm(ax: Axes, view: View, arm: Row, score: Metric) -> None:
    x, y = arm[FVU.name], score.scale * arm[score.name]
    baseline = arm is view.baseline
    colour = PALETTE[0] if baseline else view.colour(view.level(arm))
    few = len(view.arms) <= CROWD
    if few or baseline:
        if (low := arm[f"{score.name}_low"]) is not None:
            ends = possible(score, score.scale * low, score.scale * arm[f"{score.name}_high"])
            ax.plot([x, x], ends, color=colour, lw=1.0, zorder=2)
        if (low := arm["fvu_low"]) is not None:
            ax.plot([low, arm["fvu_high"]], [y, y], color=colour, lw=1.0, zorder=2)
    marker = arm_marker(view, arm)
    ax.plot([x], [y], marker, ms=7 if few else 5, mfc=colour, mec="white", mew=0.6, zorder=4)


def _set_limits(ax: Axes, arms: Sequence[Row], scores: Sequence[Metric], lines: Iterable[Null]) -> None:
    """Of all panels, which share them."""
    fvus = [arm[FVU.name] for arm in arms]
    low, high = bounded(FVU, *robust_limits(fvus, ends_of(arms, FVU.name)))
    if min(fvus) > 0 and max(fvus) / min(fvus) > LOG_RATIO / 2:
        low, high = min(fvus) / 1.1, max(fvus) * 1.1
        ax.set_xscale("log")
        logarithmic(ax.xaxis, low, high)
    ax.set_xlim(low, high)
    rows: list[Mapping[str, Any]] = [*arms, *(one.figures for one in lines)]
    values = [score.scale * row[score.name] for score in scores for row in rows if _has(row, score)]
    ends = [end for score in scores for end in ends_of(arms, score.name, score.scale)]
    ax.set_ylim(*bounded(scores[0], *robust_limits([CHANCE, *values], ends)))
