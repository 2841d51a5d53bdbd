"""What the tables say about the meaning of latents, in sentences for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.analysis.interpretability.breakdown import LAYER
from harness.analysis.interpretability.scores import ANSWERED, nulls, of_latents
from harness.analysis.interpretability.variance import COMPONENTS, MEAN, MEAN_AT_SEEDS
from harness.analysis.level_effects import effects_by_level
from harness.analysis.records import Null
from harness.analysis.sentence import Sentence, row_number
from harness.analysis.text import capitalized, effect_sentence, listed, number
from harness.analysis.view import Row, View
from harness.metrics import Metric

EFFECTS = "interpretability_effects"
TABLE = "interpretability"  # what the page calls the columns of the arms table on latents
WORDS = {"seed": "seeds", "latent": "latents", "draw": "the windows that were drawn", "repetition": "the judge"}


def sentences(view: View) -> Mapping[str, Sequence[Sentence]]:
    """By heading: effects of each axis, what weakens scores, and where their variance comes from."""
    if not view.interpretability:
        return {}
    found: dict[str, list[Sentence]] = {}
    for sentence, axis in _effects(view):
        found.setdefault(axis, []).append(sentence)
    found["Beside nulls"] = list(_above_nulls(view))
    found["Tokens or contexts"] = [*_hard(view), *_strength(view)]
    found["Layers of stacked SAEs"] = list(_layers(view))
    found["Where the variance comes from"] = list(_variance(view))
    return found


def _effects(view: View) -> Iterator[tuple[Sentence, str]]:
    """One for each level, with the scores of the answer and the others that arms are compared by."""
    outcomes = of_latents(view, *ANSWERED, "fuzzing", "intruder", "direction_cosine", "found_again")
    for level in effects_by_level(view):
        pairs = [_effect(view, pair, outcomes) for pair in level.pairs]
        if level.marginal is not None:
            yield _effect(view, level.marginal, outcomes, pairs), level.axis
        else:
            yield from ((pair, level.axis) for pair in pairs)


def _effect(view: View, row: Row, outcomes: Sequence[Metric], parts: Sequence[Sentence] = ()) -> Sentence:
    first = outcomes[0]
    text = effect_sentence(view.study, row, outcomes)
    place = row_number(view.tables["effects"], row)
    return Sentence(text, EFFECTS, place, first.judge(row[first.verdict]), tuple(parts))


def _above_nulls(view: View) -> Iterator[Sentence]:
    """For each null and score: how many points the arms lie above it, and those that are not shown to."""
    for null in nulls(view).values():
        for score in of_latents(view, *ANSWERED):
            value = null.figures.get(score.name)
            known = [arm for arm in view.arms if arm[score.name] is not None]
            if value is None or not known:
                continue
            of_null = f"{null.label} ({number(score.scale * value, score.digits)}{score.unit})"
            above = [score.scale * (arm[score.name] - value) for arm in known]
            text = f"{capitalized(score.label)}, points above {of_null}: {_range(known, above)}"
            if not_above := [arm["arm"] for arm in known if _overlaps(arm, null, score)]:
                text += f"; not shown to be above it: {listed(not_above)}"
            yield Sentence(f"{text}.", TABLE)


def _overlaps(arm: Row, null: Null, score: Metric) -> bool:
    """Whether an arm's interval reaches that of a null."""
    low, high = arm[f"{score.name}_low"], null.high.get(score.name)
    low = arm[score.name] if low is None else low
    return bool(low <= (null.figures[score.name] if high is None else high))


def _hard(view: View) -> Iterator[Sentence]:
    """How much alive latents lose against hard negatives, and how many are features of tokens."""
    both = of_latents(view, "detection_alive", "detection_hard_alive")
    known = [arm for arm in view.arms if all(arm[metric.name] is not None for metric in both)]
    if len(both) == 2 and known:
        lost = [both[0].scale * (arm[both[0].name] - arm[both[1].name]) for arm in known]
        text = f"Against hard negatives the detection of alive latents falls by {_range(known, lost, ' points')}."
        yield Sentence(text, TABLE)
    for metric in of_latents(view, "latents_token_only", "latents_dense", "latents_unscored"):
        if known := [arm for arm in view.arms if arm[metric.name] is not None]:
            values = [metric.scale * arm[metric.name] for arm in known]
            yield Sentence(f"{capitalized(metric.label)}: {_range(known, values, metric.unit)}.", TABLE)


def _strength(view: View) -> Iterator[Sentence]:
    """Of the baseline alone: a figure has the others."""
    arm = view.baseline
    ends = of_latents(view, "detection_strong", "detection_weak")
    if arm is not None and len(ends) == 2 and all(arm[end.name] is not None for end in ends):
        strong, weak = (number(end.scale * arm[end.name], 0) for end in ends)
        text = (
            f"{arm['arm']}: the judge finds {strong} % of the windows in which latents fire most strongly, "
            f"{weak} % of those in which they fire most weakly."
        )
        yield Sentence(text, TABLE, row_number(view.arms, arm))


def _range(arms: Sequence[Row], values: Sequence[float], unit: str = "") -> str:
    """As in `9.1 points (none) to 12.0 points (sparse 3)`."""
    ends = sorted(zip(values, [str(arm["arm"]) for arm in arms], strict=True))
    shown = [f"{number(value, 1)}{unit} ({arm})" for value, arm in ends]
    return shown[0] if len(shown) == 1 else f"{shown[0]} to {shown[-1]}"


def _layers(view: View) -> Iterator[Sentence]:
    """One for each stacked arm: detection of alive latents, and dead ones, layer by layer."""
    rows = view.tables["latents"]
    for arm in view.arms:
        own = [row for row in rows if row["arm"] == arm["arm"] and row["by"] == LAYER]
        if own and all(row["detection"] is not None for row in own):
            parts = [
                f"{row['bin']} {number(100 * row['detection'], 1)} % ({number(100 * row['dead'], 1)} % dead)"
                for row in own
            ]
            text = f"{arm['arm']}: detection of alive latents in {listed(parts)}."
            yield Sentence(text, "latents", row_number(rows, own[0]))


def _variance(view: View) -> Iterator[Sentence]:
    """One for each score: its components, and the standard errors that they add up to."""
    rows = view.tables["interpretability_variance"]
    for metric in of_latents(view, *dict.fromkeys(row["outcome"] for row in rows)):
        own = {row["component"]: row for row in rows if row["outcome"] == metric.name}
        shares = [
            f"{number(100 * own[name]['share'], 0)} % {WORDS[name]} (sd {number(own[name]['sd'], 1)} points)"
            for name in COMPONENTS
            if name in own and own[name]["share"] is not None
        ]
        if not shares:
            continue
        mean, at_seeds = own[MEAN], own[MEAN_AT_SEEDS]
        text = (
            f"{capitalized(metric.label)}: of the variance of one latent's score in one draw {listed(shares)}. "
            f"That makes a standard error of {number(mean['error'], 2)} points for an arm's mean, and of "
            f"{number(at_seeds['error'], 2)} at the same seeds{_checked(mean, at_seeds)}."
        )
        yield Sentence(text, "interpretability_variance", row_number(rows, mean))


def _checked(mean: Row, at_seeds: Row) -> str:
    if mean["bootstrap"] is None:
        return ""
    return f" (by the bootstrap {number(mean['bootstrap'], 2)} and {number(at_seeds['bootstrap'], 2)})"
