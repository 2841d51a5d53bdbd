"""The answer to a study's question in a few sentences: the first thing that a reader sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from harness.analysis.interpretability import sentences as interpretability
from harness.analysis.interpretability.scores import ANSWERED, effects_table, of_latents
from harness.analysis.sentences.findings import headline
from harness.analysis.sentences.sentence import Sentence, row_number
from harness.analysis.sentences.text import capitalized, change, level_name, listed, plural, signed
from harness.analysis.views.level_effects import LevelEffect, effects_by_level
from harness.analysis.views.view import Row, View, unique
from harness.metrics import Metric

MOST_LEVELS = 3  # that are named for each verdict; the others are counted
MIXED = "different in different pairs of arms"


def answer(view: View) -> list[Sentence]:
    """The best arms and the baseline; then for each axis what its levels do, one part for each level."""
    always = [outcome for outcome in view.outcomes if not outcome.optional]
    return [*headline(view), *_axes(view, always), *meaning(view)]


def meaning(view: View) -> list[Sentence]:
    """The same of what latents mean, in fewer words where all scores agree; nothing where a study has none."""
    lines = interpretability.headline(view)
    scores = of_latents(view, *ANSWERED)
    for axis, levels in _by_axis(view) if scores else ():
        agreeing = [one for one in scores[1:] if _verdicts(levels, one) == _verdicts(levels, scores[0])]
        said = list(_axis(view, axis, levels, [score for score in scores if score not in agreeing]))
        if said and agreeing:
            named = capitalized(listed([score.label for score in agreeing]))
            text = f"{named} by {axis}: the same verdicts as {scores[0].label}."
            said.append(Sentence(text, effects_table(scores[0])))
        lines += said
    return lines


def _axes(view: View, outcomes: Sequence[Metric]) -> Iterator[Sentence]:
    for axis, levels in _by_axis(view):
        yield from _axis(view, axis, levels, outcomes)


def _by_axis(view: View) -> list[tuple[str, list[LevelEffect]]]:
    return [(axis, list(levels)) for axis, levels in groupby(effects_by_level(view), key=lambda level: level.axis)]


def _axis(view: View, axis: str, levels: Sequence[LevelEffect], outcomes: Sequence[Metric]) -> Iterator[Sentence]:
    for outcome in outcomes:
        if parts := _levels(view, levels, outcome):
            lead = f"{capitalized(outcome.label)} by {axis}, against {levels[0].reference}"
            yield Sentence(lead, effects_table(outcome), parts=tuple(parts))


def _verdicts(levels: Sequence[LevelEffect], outcome: Metric) -> list[str]:
    return [row[outcome.verdict] for level in levels for row in _told(level, outcome)]


def _levels(view: View, levels: Sequence[LevelEffect], outcome: Metric) -> list[Sentence]:
    """The levels by their verdicts, the better ones first; of each verdict the largest changes."""
    by_verdict: dict[str, list[LevelEffect]] = {}
    for level in levels:
        if told := _told(level, outcome):
            kinds = unique(row[outcome.verdict] for row in told)
            by_verdict.setdefault(kinds[0] if len(kinds) == 1 else MIXED, []).append(level)
    parts: list[Sentence] = []
    for verdict in sorted(by_verdict, key=lambda verdict: _order(verdict, outcome)):
        ordered = sorted(by_verdict[verdict], key=lambda level: -_size(level, outcome))
        named = len(ordered) if len(ordered) <= MOST_LEVELS + 1 else MOST_LEVELS  # one is named, not counted
        parts += [_level(view, level, outcome, verdict) for level in ordered[:named]]
        if others := len(ordered) - named:
            parts.append(Sentence(f"{verdict} with {plural(others, 'other')}", effects_table(outcome)))
    return parts


def _told(level: LevelEffect, outcome: Metric) -> list[Row]:
    """The pairs of arms that have a change, or the average of a design without pairs."""
    rows = level.pairs or ([] if level.marginal is None else [level.marginal])
    return [row for row in rows if row[outcome.effect] is not None]


def _order(verdict: str, outcome: Metric) -> int:
    return {"better": 0, "worse": 1}.get(outcome.judge(verdict), 2)


def _size(level: LevelEffect, outcome: Metric) -> float:
    return max(abs(float(row[outcome.effect])) for row in _told(level, outcome))


def _level(view: View, level: LevelEffect, outcome: Metric, verdict: str) -> Sentence:
    """One level: its change, or the range over its pairs of arms, whose mean may be the change of none."""
    told = _told(level, outcome)
    row = told[0] if level.marginal is None or len(told) == 1 else level.marginal
    name, number = level_name(view.study, row), row_number(view.tables["effects"], row)
    table = effects_table(outcome)
    if len(told) == 1:
        figures = change(row, outcome).removeprefix(f"{outcome.label} ")
        return Sentence(f"{verdict} with {name} ({figures})", table, number, outcome.judge(verdict))
    changes = sorted(pair[outcome.effect] for pair in told)
    ends = [signed(change, outcome.change_digits) for change in (changes[0], changes[-1])]
    figures = f"{ends[0]} to {ends[1]} {outcome.change_unit}".rstrip()
    if verdict == MIXED:
        return Sentence(f"with {name} {_counted(told, outcome)} ({figures})", table, number)
    text = f"{verdict} with {name} ({figures} in {len(told)} pairs of arms)"
    return Sentence(text, table, number, outcome.judge(verdict))


def _counted(pairs: Sequence[Row], outcome: Metric) -> str:
    """As in `lower in 2 of 3 pairs of arms, undecided in 1`."""
    verdicts = [pair[outcome.verdict] for pair in pairs]
    first, *others = sorted(unique(verdicts), key=lambda verdict: -verdicts.count(verdict))
    counted = [f"{first} in {verdicts.count(first)} of {len(pairs)} pairs of arms"]
    return ", ".join(counted + [f"{verdict} in {verdicts.count(verdict)}" for verdict in others])
