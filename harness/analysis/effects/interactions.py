"""Main effects and two-way interactions, over the complete rectangles that a grid has and over no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, product
from typing import Any

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.arms.measured import Measured, Weights
from harness.analysis.arms.statistics import Interval
from harness.analysis.effects.additive_model import AdditiveModel
from harness.analysis.effects.contrasts import FTest, change_of, f_columns, f_test, f_words
from harness.analysis.effects.rectangles import Rectangle, rectangles
from harness.analysis.results.levels import Level
from harness.analysis.results.records import StudyRecord
from harness.analysis.sentences.sentence import Sentence
from harness.analysis.sentences.text import bracket, signed
from harness.analysis.views.view import Row, View
from harness.inference.constants import ALPHA
from harness.inference.family import holm
from harness.metrics import Metric
from harness.study.labels import show

Rows = list[dict[str, Any]]

TESTS = ("all interactions", "lack of fit")


def interaction_rows(study: StudyRecord, arms: Sequence[Arm], outcomes: Sequence[Metric]) -> Rows:
    """The interactions table: for each rectangle, in this order, rows of these kinds.

    `main effect`: what a level changes against the rectangle's reference, mean over the levels of `other`.
    `interaction`: by how much that change at `other_level` exceeds the one at `other_reference`.
    `all interactions`: the F test that all of these are 0 (`{outcome}_f`, `{outcome}_p`), with p adjusted for all
    tests of the outcome in this table by Holm's method (`{outcome}_p_holm`).

    Of a fraction of a factorial, the first row is `lack of fit`: the F test that effects add up, as its marginal
    rows of the effects table take them to do.

    Changes of FVU are differences of logarithms, given in percent; others are in points or in the shown unit.
    """
    measured = {outcome: Measured.of(study, arms, outcome) for outcome in outcomes}
    rows = list(_lack_of_fit(study, arms, measured)) if study.design == "fraction" else []
    rows += [row for rectangle in rectangles(study, arms) for row in _rows(rectangle, measured)]
    for outcome in outcomes:
        tests = [row for row in rows if row[f"{outcome.short}_p"] is not None]
        for row, p in zip(tests, holm([row[f"{outcome.short}_p"] for row in tests]), strict=True):
            row[f"{outcome.short}_p_holm"] = p
    return rows


def _lack_of_fit(
    study: StudyRecord, arms: Sequence[Arm], measured: Mapping[Metric, Measured]
) -> Iterator[dict[str, Any]]:
    residuals = AdditiveModel(study, arms).residuals()
    tests = {outcome: f_test(one, residuals) for outcome, one in measured.items()}
    if any(tests.values()):
        blank = ("axis", "level", "reference", "other", "other_level", "other_reference", "rectangle", "holding")
        names = {"kind": "lack of fit", **dict.fromkeys(blank), "arms": len(arms)}
        yield names | _figures(measured, {}, tests)


def _rows(rectangle: Rectangle, measured: Mapping[Metric, Measured]) -> Iterator[dict[str, Any]]:
    for turned in (rectangle, rectangle.turned()):
        for row in range(1, len(turned.rows)):
            names = _names(turned, "main effect", turned.rows[row])
            yield names | _contrast(main_effect(turned, row), measured)
    weights = []
    for row, column in product(range(1, len(rectangle.rows)), range(1, len(rectangle.columns))):
        names = _names(rectangle, "interaction", rectangle.rows[row], rectangle.columns[column])
        weights.append(interaction(rectangle, row, column))
        yield names | _contrast(weights[-1], measured)
    yield _names(rectangle, "all interactions") | _f_tests(weights, measured)


def main_effect(rectangle: Rectangle, row: int) -> Weights:
    """A row less the first one, mean over the columns and the settings of the other axes."""
    above, below = (tuple(chain.from_iterable(rectangle.arms[place])) for place in (row, 0))
    return dict.fromkeys(above, 1 / len(above)) | dict.fromkeys(below, -1 / len(below))


def interaction(rectangle: Rectangle, row: int, column: int) -> Weights:
    """What a row changes in a column less what it changes in the first one, mean over the other axes' settings."""
    cells = rectangle.arms
    share = 1 / len(cells[0][0])
    plus, minus = cells[row][column] + cells[0][0], cells[0][column] + cells[row][0]
    return dict.fromkeys(plus, share) | dict.fromkeys(minus, -share)


def _names(rectangle: Rectangle, kind: str, level: Level = None, other_level: Level = None) -> dict[str, Any]:
    named = {"main effect": 1, "interaction": 2}.get(kind, 0)
    axis, other = rectangle.axes
    return {
        "kind": kind,
        "axis": axis,
        "level": show(level) if named else None,
        "reference": show(rectangle.rows[0]) if named else None,
        "other": other,
        "other_level": show(other_level) if named > 1 else None,
        "other_reference": show(rectangle.columns[0]) if named > 1 else None,
        "rectangle": rectangle.text,
        "holding": rectangle.holding,
        "arms": sum(len(cell) for row in rectangle.arms for cell in row),
    }


def _contrast(weights: Weights, measured: Mapping[Metric, Measured]) -> dict[str, Any]:
    return _figures(measured, {outcome: change_of(one, weights) for outcome, one in measured.items()}, {})


def _f_tests(weights: Sequence[Weights], measured: Mapping[Metric, Measured]) -> dict[str, Any]:
    return _figures(measured, {}, {outcome: f_test(one, weights) for outcome, one in measured.items()})


def _figures(
    outcomes: Iterable[Metric],
    changes: Mapping[Metric, Interval | None],
    tests: Mapping[Metric, FTest | None],
) -> dict[str, Any]:
    """All columns of all outcomes, None where a row has no such figure."""
    columns: dict[str, Any] = {}
    for outcome in outcomes:
        test = tests.get(outcome)
        columns |= interval_columns(outcome.effect, changes.get(outcome))
        columns |= f_columns(outcome.short, test) | {f"{outcome.short}_p_holm": None}
    return columns


def sentences(view: View) -> list[Sentence]:
    """One for each F test of the interactions table: for which outcomes effects depend on each other."""
    rows = list(enumerate(view.tables["interactions"], start=1))
    return [Sentence(_tested(view, rows, row), "interactions", n) for n, row in rows if row["kind"] in TESTS]


def _tested(view: View, rows: Sequence[tuple[int, Row]], row: Row) -> str:
    if row["kind"] == "lack of fit":
        subject, found, none = "The additive model", "does not fit", "no lack of fit shown"
    else:
        where = f" ({row['holding']})" if row["holding"] else ""
        subject = f"{row['axis']} and {row['other']}, {row['rectangle']}{where}"
        found, none = "what one changes depends on the other", "no interaction shown"
    clauses = []
    for outcome in view.outcomes:
        if row[f"{outcome.short}_p"] is not None:
            shown = row[f"{outcome.short}_p_holm"] < ALPHA
            largest = _largest(rows, row, outcome) if shown and row["kind"] != "lack of fit" else ""
            clauses.append(f"{outcome.label}: {found if shown else none}, {f_words(row, outcome.short)}{largest}")
    return f"{subject}: {'; '.join(clauses) or 'too few seeds for a test'}."


def _largest(rows: Sequence[tuple[int, Row]], test: Row, outcome: Metric) -> str:
    """The largest interaction of a rectangle in words."""
    same = ("axis", "other", "rectangle", "holding")
    own = [row for _, row in rows if row["kind"] == "interaction" and all(row[n] == test[n] for n in same)]
    row = max(own, key=lambda row: abs(row[outcome.effect]))
    change = f"{signed(row[outcome.effect], outcome.change_digits)} {outcome.change_unit}".strip()
    return (
        f"; most for {row['level']} instead of {row['reference']}, whose change differs by {change} "
        f"{bracket(row, outcome.effect, 1)} between {row['other_level']} and {row['other_reference']}"
    )
