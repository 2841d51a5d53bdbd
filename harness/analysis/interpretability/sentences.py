"""What the tables say about the meaning of latents, in sentences for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.analysis.interpretability.breakdown import LAYER
from harness.analysis.interpretability.scores import ANSWERED, of_latents
from harness.analysis.interpretability.variance import COMPONENTS, MEAN, MEAN_AT_SEEDS
from harness.analysis.sentences.sentence import Sentence, row_number
from harness.analysis.sentences.text import (
    bracket,
    capitalized,
    effect_sentence,
    listed,
    number,
    quoted,
    shown,
    signed,
)
from harness.analysis.views.level_effects import effects_by_level
from harness.analysis.views.view import Row, View
from harness.metrics import Metric

EFFECTS = "interpretability_effects"
NULLS = "above_nulls"
TABLE = "interpretability"  # what the page calls the columns of the arms table on latents
WORDS = {
    "seed": "between seeds",
    "latent": "between latents of a seed",
    "draw": "between draws of a latent's windows",
    "repetition": "between repetitions of the judge",
}


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
    """One for each level; the table has the other scores."""
    outcomes = of_latents(view, *ANSWERED, "direction_cosine", "found_again")
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


def headline(view: View) -> list[Sentence]:
    """How well the baseline's latents are explained, and how far above each null."""
    arm, found = view.baseline, of_latents(view, ANSWERED[0])
    if arm is None or not found or arm[found[0].name] is None:
        return []
    score, rows = found[0], view.tables["above_nulls"]
    own = [row for row in rows if row["arm"] == arm["arm"] and row[score.effect] is not None]
    against = [f"{_points(row, score)} against {row['label']}" for row in own]
    text = f"{capitalized(score.label)} of {arm['arm']}: {', '.join([shown(arm, score), *against])}."
    if not own:
        return [Sentence(text, TABLE, row_number(view.arms, arm))]
    return [Sentence(text, NULLS, row_number(rows, own[0]))]


def _points(row: Row, score: Metric) -> str:
    """As in `+12.1 points [10.0, 14.2]`."""
    digits = score.change_digits
    parts = signed(row[score.effect], digits), score.change_unit, bracket(row, score.effect, digits)
    return " ".join(part for part in parts if part)


def _above_nulls(view: View) -> Iterator[Sentence]:
    """For each null: how many points the arms' scores lie above it, and which are not shown to."""
    rows = view.tables["above_nulls"]
    for name in dict.fromkeys(row["null"] for row in rows):
        own = [row for row in rows if row["null"] == name]
        parts = [part for score in of_latents(view, *ANSWERED) if (part := _above_null(own, score))]
        if parts:
            yield Sentence(f"Points above {own[0]['label']}: {'; '.join(parts)}.", NULLS, row_number(rows, own[0]))


def _above_null(rows: Sequence[Row], score: Metric) -> str:
    known = [row for row in rows if row[score.effect] is not None]
    if not known:
        return ""
    text = f"{score.label} {_range(known, [row[score.effect] for row in known])}"
    low = f"{score.effect}_low"
    arms = [row["arm"] for row in known]
    not_above = [row["arm"] for row in known if row[low] is not None and row[low] <= 0]
    if not not_above:
        return text
    return f"{text}, not shown to be above it for {'any arm' if not_above == arms else quoted(not_above)}"


def _hard(view: View) -> Iterator[Sentence]:
    """How much alive latents lose against hard negatives, and how many are features of tokens."""
    both = of_latents(view, "detection_alive", "detection_hard_alive")
    known = [arm for arm in view.arms if all(arm[metric.name] is not None for metric in both)]
    if len(both) == 2 and known:
        lost = [both[0].scale * (arm[both[0].name] - arm[both[1].name]) for arm in known]
        text = f"Against hard negatives the detection of alive latents falls by {_range(known, lost, ' points')}."
        yield Sentence(text, TABLE)
    for metric in of_latents(view, "latents_token_only", "latents_dense", "latents_unscored"):
        known = [arm for arm in view.arms if arm[metric.name] is not None]
        values = [metric.scale * arm[metric.name] for arm in known]
        if any(values):
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
    """Of each stacked arm, layer by layer: detection of alive latents, dead ones, constancy of the direction."""
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
        yield from _directions(view, arm)


def _directions(view: View, arm: Row) -> Iterator[Sentence]:
    """Of a stack, layer by layer: latents of an early layer decide what the later ones get to code."""
    rows = view.tables["layers"]
    known = [row for row in rows if row["arm"] == arm["arm"] and row.get("direction_cosine") is not None]
    if len(known) > 1:
        cosines = [f"{number(row['direction_cosine'], 2)} in layer {row['layer']}" for row in known]
        text = (
            f"{arm['arm']}: constancy of the direction is {listed(cosines)}. Later layers code what is left over: "
            "where a latent of an early one is switched off, they make up for part of it, each time another part. "
            "The last layer is to be compared with an SAE that is not stacked."
        )
        yield Sentence(text, "layers", row_number(rows, known[0]))


def _variance(view: View) -> Iterator[Sentence]:
    """One for each score: its components, and the standard errors that they add up to."""
    rows = view.tables["interpretability_variance"]
    for metric in of_latents(view, *dict.fromkeys(row["outcome"] for row in rows)):
        own = {row["component"]: row for row in rows if row["outcome"] == metric.name}
        deviations = [f"{number(own[name]['sd'], 1)} {WORDS[name]}" for name in COMPONENTS if name in own]
        mean, at_seeds = own[MEAN], own[MEAN_AT_SEEDS]
        text = (
            f"{capitalized(metric.label)}: standard deviations in points are {listed(deviations)}. So an arm's "
            f"mean has a standard error of {number(mean['error'], 2)} points; without that of seeds it would be "
            f"{number(at_seeds['error'], 2)}{_checked(mean, at_seeds)}."
        )
        yield Sentence(text, "interpretability_variance", row_number(rows, mean))


def _checked(mean: Row, at_seeds: Row) -> str:
    if mean["bootstrap"] is None:
        return ""
    return f" (by the bootstrap {number(mean['bootstrap'], 2)} and {number(at_seeds['bootstrap'], 2)})"
