"""What was found, short enough for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.analysis.report import facts
from harness.analysis.results.levels import levels_in
from harness.analysis.sentences.answer import answer, meaning
from harness.analysis.sentences.findings import findings, headline
from harness.analysis.sentences.text import estimate, mean, plural
from harness.analysis.sentences.warnings import warnings
from harness.analysis.views.view import Row, View, load_view
from harness.metrics import L0, Metric
from harness.narrow import keep_words
from harness.study.labels import show

REPORT = ("report.html", "report.md", "tables.tex")
MOST_WARNINGS = 5
MOST_ARMS = 20
MOST_FINDINGS = 15  # with more of them, each axis has one line
COLOURS = {"better": "blue", "worse": "yellow"}


def summary(results: Path) -> RenderableType:
    """A short table of the arms, the findings, the warnings and the paths of what was written.

    Raises UserError where the tables are missing.
    """
    view = load_view(results)
    parts: list[RenderableType] = [Text(f"{view.study.name}: {view.study.question}", style="bold")]
    parts += [Text(facts(view), style="dim"), *_arms(view), *_said(view)]
    optional = [outcome for outcome in view.outcomes if outcome.optional]
    parts += [_indent(f"{outcome.label}: {outcome.defined(view.dead_window)}", "dim") for outcome in optional]
    parts += _warnings(view)
    parts += [Text(str(path), no_wrap=True, overflow="ignore") for path in _paths(results)]
    return Group(*parts)


def _said(view: View) -> list[RenderableType]:
    """The best arms and what each level does; or, where these are many, what the levels of each axis do."""
    found = findings(view)
    if sum(map(len, found.values())) > MOST_FINDINGS:
        return [Text(sentence.whole) for sentence in answer(view)]
    parts: list[RenderableType] = [Text(sentence.text) for sentence in headline(view)]
    for axis, group in found.items():
        parts.append(Text(axis, style="bold"))
        parts += [_indent(finding.text, COLOURS.get(finding.judgement, "")) for finding in group]
    if said := meaning(view):
        parts += [Text("what latents mean", style="bold"), *(_indent(sentence.whole) for sentence in said)]
    return parts


def _arms(view: View) -> list[RenderableType]:
    """The arms; of many the baseline and those with the lowest FVU, in the order of the table."""
    known = [arm for arm in view.arms if arm["fvu"] is not None]
    best = sorted(known, key=lambda arm: (arm is not view.baseline, arm["fvu"]))[:MOST_ARMS]
    shown = [arm for arm in view.arms if arm in best] if len(view.arms) > MOST_ARMS else view.arms
    parts: list[RenderableType] = [_table(view, shown)]
    if len(shown) < len(view.arms):
        more = plural(len(view.arms) - len(shown), "more arm")
        parts.append(_indent(f"and {more} in tables/arms.csv, without result or with a higher FVU", "dim"))
    return parts


def _table(view: View, arms: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("arm")
    for axis in view.study.tuned:
        table.add_column(axis, justify="right")
    first, *others = view.outcomes
    for column in ("n", first.axis, L0.label, *(outcome.axis for outcome in others)):
        table.add_column(column, justify="right")
    for arm in arms:
        tuned = [show(level) for level in levels_in(arm, view.study.tuned).values()]
        figures = [_figure(arm, outcome) for outcome in view.outcomes]
        figures.insert(1, mean(arm, L0))  # beside FVU, which depends on it
        table.add_row(Text(arm["arm"]), *tuned, str(arm["n"]), *(Text(figure) for figure in figures))
    for name, row in view.references:
        values = [mean(row, outcome) for outcome in view.outcomes]
        values.insert(1, mean(row, L0))
        table.add_row(Text(f"{name} (reference)"), *("–" for _ in view.study.tuned), "–", *map(Text, values))
    return keep_words(table)


def _figure(arm: Row, outcome: Metric) -> str:
    """Without its interval where it is optional: five intervals are wider than a terminal."""
    if outcome.optional:
        return mean(arm, outcome)
    return estimate(arm, outcome.name, outcome.digits, outcome.scale)


def _warnings(view: View) -> list[RenderableType]:
    lines = warnings(view)
    parts: list[RenderableType] = [_indent(f"! {line}", "yellow") for line in lines[:MOST_WARNINGS]]
    if len(lines) > MOST_WARNINGS:
        parts.append(
            _indent(f"! and {plural(len(lines) - MOST_WARNINGS, 'more warning')}, see the report", "yellow")
        )
    return parts


def _indent(line: str, style: str = "") -> Padding:
    return Padding(Text(line, style=style), (0, 0, 0, 2))


def _paths(results: Path) -> list[Path]:
    written = [results / name for name in REPORT]
    return sorted((results / "figures").glob("*.png")) + [path for path in written if path.is_file()]
