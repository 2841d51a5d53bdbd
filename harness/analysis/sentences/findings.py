"""What the tables say, in sentences for the report and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.results.levels import levels_in
from harness.analysis.sentences.sentence import Sentence, row_number
from harness.analysis.sentences.text import change, effect_sentence, level_name, mean, shown
from harness.analysis.views.level_effects import effects_by_level
from harness.analysis.views.view import Row, View
from harness.metrics import FVU, L0, MCC, Metric
from harness.study.labels import describe

OPPOSITE = {"better": "worse", "worse": "better"}
DISAGREEMENT = {"better": "lowers FVU but loses features", "worse": "raises FVU but gains features"}


def headline(view: View) -> list[Sentence]:
    """The arm with the lowest FVU, the one with the highest MCC, the baseline; where FVU and features disagree."""
    known = [arm for arm in view.arms if arm["fvu"] is not None]
    if not known:
        return [Sentence("No cell has a result yet.", "cells")]
    word, best = _best(known, FVU)
    lines = [_of_arm(view, f"{word} {FVU.axis}", best)]
    matched = [arm for arm in known if arm.get(MCC.name) is not None]
    word, closest = _best(matched, MCC) if matched else ("", best)
    if closest is not best:
        lines.append(_of_arm(view, f"{word} {MCC.label}", closest))
    if view.baseline in known and view.baseline not in (best, closest):
        lines.append(_of_arm(view, "Baseline", view.baseline))
    return lines + list(_disagreements(view))


def _best(arms: list[Row], metric: Metric) -> tuple[str, Row]:
    """The arm with the best mean, and which extreme of the metric that is."""
    word, choose = ("Lowest", min) if metric.better == "lower" else ("Highest", max)
    return word, choose(arms, key=lambda arm: float(arm[metric.name]))


def _of_arm(view: View, subject: str, arm: Row) -> Sentence:
    return Sentence(f"{subject}: {_state(view, arm)}.", "arms", row_number(view.arms, arm))


def _state(view: View, arm: Row) -> str:
    tuned = describe(levels_in(arm, view.study.tuned))
    at = f" at {tuned}" if tuned else ""
    figures = [f"{outcome.label} {shown(arm, outcome)}" for outcome in view.outcomes]
    figures.insert(1, f"{L0.label} {mean(arm, L0)}")  # beside FVU, which depends on it
    return f"{arm['arm']}{at}: {', '.join(figures)}"


def _disagreements(view: View) -> Iterator[Sentence]:
    """A level that lowers FVU but loses features (MCC), or the other way round, in one sentence each."""
    features = [outcome for outcome in view.outcomes if outcome.group == "features"]
    for level in effects_by_level(view) if features else ():
        for effect in [level.marginal] if level.marginal is not None else level.pairs:
            verdict = FVU.judge(effect[FVU.verdict])
            judged = {outcome: outcome.judge(effect[outcome.verdict]) for outcome in features}
            if MCC in judged and judged[MCC] == OPPOSITE.get(verdict):
                against = [outcome for outcome in features if judged[outcome] == judged[MCC]]
                along = [outcome for outcome in features if judged[outcome] == verdict]
                where = f" ({effect['holding']})" if effect["holding"] else ""
                changes = [
                    *(change(effect, o) for o in (FVU, *against)),
                    *(f"yet {change(effect, o)}" for o in along),
                ]
                text = f"{level_name(view.study, effect)}{where} {DISAGREEMENT[verdict]}: {'; '.join(changes)}."
                yield _of_effect(view, effect, text, ())


def findings(view: View) -> dict[str, list[Sentence]]:
    """For each axis its levels' effects in words; an average over a single pair is that pair.

    `judgement` is that of the change of FVU; `parts` are the pairs of arms that an average is of.
    """
    found: dict[str, list[Sentence]] = {}
    for level in effects_by_level(view):
        group = found.setdefault(level.axis, [])
        pairs = [_finding(view, pair) for pair in level.pairs]
        group += pairs if level.marginal is None else [_finding(view, level.marginal, pairs)]
    return found


def _finding(view: View, effect: Row, pairs: Sequence[Sentence] = ()) -> Sentence:
    text = effect_sentence(view.study, effect, view.outcomes, view.reach(effect))
    return _of_effect(view, effect, text, pairs)


def _of_effect(view: View, effect: Row, text: str, parts: Sequence[Sentence]) -> Sentence:
    row = row_number(view.tables["effects"], effect)
    return Sentence(text, "effects", row, FVU.judge(effect[FVU.verdict]), tuple(parts))
