"""What the tables say, in sentences for the report and the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.analysis.level_effects import effects_by_level
from harness.analysis.levels import levels_in
from harness.analysis.text import change, effect_sentence, level_name, mean, shown
from harness.analysis.view import Row, View
from harness.metrics import FVU, L0, MCC, Metric
from harness.study.labels import describe

OPPOSITE = {"better": "worse", "worse": "better"}
DISAGREEMENT = {"better": "lowers FVU but loses features", "worse": "raises FVU but gains features"}


@dataclass(frozen=True)
class Finding:
    """What a level does on average, and in each pair of arms that this is the average of.

    `judgement`: of its change of FVU: better, worse or level.
    """

    sentence: str
    judgement: str
    pairs: list[str]


def headline(view: View) -> list[str]:
    """The arm with the lowest FVU, the one with the highest MCC, the baseline; where FVU and features disagree."""
    known = [arm for arm in view.arms if arm["fvu"] is not None]
    if not known:
        return ["No cell has a result yet."]
    word, best = _best(known, FVU)
    lines = [f"{word} {FVU.axis}: {_state(view, best)}."]
    matched = [arm for arm in known if arm.get(MCC.name) is not None]
    word, closest = _best(matched, MCC) if matched else ("", best)
    if closest is not best:
        lines.append(f"{word} {MCC.label}: {_state(view, closest)}.")
    if view.baseline in known and view.baseline not in (best, closest):
        lines.append(f"Baseline: {_state(view, view.baseline)}.")
    return lines + list(_disagreements(view))


def _best(arms: list[Row], metric: Metric) -> tuple[str, Row]:
    """The arm with the best mean, and which extreme of the metric that is."""
    word, choose = ("Lowest", min) if metric.better == "lower" else ("Highest", max)
    return word, choose(arms, key=lambda arm: float(arm[metric.name]))


def _state(view: View, arm: Row) -> str:
    tuned = describe(levels_in(arm, view.study.tuned))
    at = f" at {tuned}" if tuned else ""
    figures = [f"{outcome.label} {shown(arm, outcome)}" for outcome in view.outcomes]
    figures.insert(1, f"{L0.label} {mean(arm, L0)}")  # beside FVU, which depends on it
    return f"{arm['arm']}{at}: {', '.join(figures)}"


def _disagreements(view: View) -> Iterator[str]:
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
                yield f"{level_name(view.study, effect)}{where} {DISAGREEMENT[verdict]}: {'; '.join(changes)}."


def findings(view: View) -> dict[str, list[Finding]]:
    """For each axis its levels' effects in words; an average over a single pair is that pair."""
    found: dict[str, list[Finding]] = {}
    for effect in effects_by_level(view):
        group = found.setdefault(effect.axis, [])
        if effect.marginal is not None:
            sentences = [_sentence(view, pair) for pair in effect.pairs]
            group.append(_finding(view, effect.marginal, sentences))
            continue
        for pair in effect.pairs:
            group.append(_finding(view, pair, []))
    return found


def _finding(view: View, effect: Row, pairs: list[str]) -> Finding:
    return Finding(_sentence(view, effect), FVU.judge(effect[FVU.verdict]), pairs)


def _sentence(view: View, effect: Row) -> str:
    return effect_sentence(view.study, effect, view.outcomes, view.reach(effect))
