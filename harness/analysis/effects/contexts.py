"""Does a level change the same in every context? Where not, the mean over contexts is that of no arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.arms.arm import Arm
from harness.analysis.arms.measured import Measured, Weights
from harness.analysis.effects.comparisons import Pair, compared_levels, pairs_of
from harness.analysis.effects.contrasts import f_columns, f_test, f_words
from harness.analysis.results.records import StudyRecord
from harness.analysis.sentences.sentence import Sentence
from harness.analysis.sentences.text import change, level_name, listed
from harness.analysis.views.view import Row, View
from harness.inference.constants import ALPHA
from harness.metrics import Metric
from harness.study.labels import show

MOST_CONTEXTS = 6  # in one sentence


def add_contexts(
    study: StudyRecord, arms: Sequence[Arm], outcomes: Sequence[Metric], effects: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows of the effects table with these columns of each outcome on the marginal rows of several pairs.

    `{outcome}_contexts_f`, `_df`, `_df_seeds`, `_p`: the F test that all pairs have the same change.
    `{outcome}_contexts_differ`: whether p is below 0.05. It is not adjusted for the number of tests: to show
    contexts that do not differ misleads nobody, a mean of those that do is a figure that no arm has.
    `{outcome}_contexts_low`, `_high`: the lowest and the highest change of a pair.
    """
    measured = {outcome: Measured.of(study, arms, outcome) for outcome in outcomes}
    places = {arm.label: place for place, arm in enumerate(arms)}
    levels = compared_levels(study)
    pairs = {(axis, show(level)): list(pairs_of(study, arms, axis, level)) for axis, level in levels}
    added = []
    for row in effects:
        own = _pairs(row, effects)
        several = row["kind"] == "marginal" and len(own) > 1
        contrasts = _differences(places, pairs[row["axis"], row["level"]]) if several else []
        for outcome, one in measured.items():
            row = row | _columns(outcome, one, contrasts, own if several else [])
        added.append(row)
    return added


def _pairs(row: Row, effects: Sequence[Row]) -> list[Row]:
    """The rows of the pairs that a marginal row is the mean of."""
    return [e for e in effects if e["kind"] == "pair" and (e["axis"], e["level"]) == (row["axis"], row["level"])]


def _differences(places: Mapping[str, int], pairs: Sequence[Pair]) -> list[Weights]:
    """What each pair changes less what the first one does."""

    def change(pair: Pair, sign: float) -> Weights:
        return {places[pair.arm.label]: sign, places[pair.reference.label]: -sign}

    first, *others = pairs
    return [{**change(pair, 1.0), **change(first, -1.0)} for pair in others]


def _columns(
    outcome: Metric, measured: Measured, contrasts: Sequence[Weights], pairs: Sequence[Row]
) -> dict[str, Any]:
    name = f"{outcome.short}_contexts"
    test = f_test(measured, contrasts)
    changes = [pair[outcome.effect] for pair in pairs if pair[outcome.effect] is not None]
    return f_columns(name, test) | {
        f"{name}_differ": None if test is None else test.p < ALPHA,
        f"{name}_low": min(changes, default=None),
        f"{name}_high": max(changes, default=None),
    }


def sentences(view: View) -> list[Sentence]:
    """One for each marginal row and outcome whose contexts differ: what the level changes in each of them."""
    effects = view.tables["effects"]
    found = []
    for number, row in enumerate(effects, start=1):
        own = _pairs(row, effects)
        for outcome in view.outcomes:
            if row[f"{outcome.short}_contexts_differ"]:
                text = _in_contexts(view, row, own, outcome)
                found.append(Sentence(text, "effects", number, _judgement(row, own, outcome)))
    return found


def _in_contexts(view: View, row: Row, pairs: Sequence[Row], outcome: Metric) -> str:
    known = sorted((p for p in pairs if p[outcome.effect] is not None), key=lambda p: p[outcome.effect])
    dropped = len(known) - MOST_CONTEXTS
    shown = known if dropped <= 0 else [*known[: MOST_CONTEXTS // 2], *known[-MOST_CONTEXTS // 2 :]]
    contexts = listed([f"{change(pair, outcome)} ({pair['holding']})" for pair in shown])
    others = f", and between these in {dropped} others" if dropped > 0 else ""
    test = f_words(row, f"{outcome.short}_contexts")
    return (
        f"{level_name(view.study, row)} instead of {row['reference']} changes {outcome.label} by different "
        f"amounts, {test}: {contexts}{others}. Their mean is that of no arm."
    )


def _judgement(row: Row, pairs: Sequence[Row], outcome: Metric) -> str:
    """Better or worse only where every context says so."""
    judged = {outcome.judge(pair[outcome.verdict]) for pair in pairs}
    return judged.pop() if len(judged) == 1 else "level"
