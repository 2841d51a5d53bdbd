"""How certain the answer is: the luck of the best arm, open choices, and what more seeds would settle."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from harness.analysis.effects.verdicts import UNDECIDED
from harness.analysis.sentences.sentence import Sentence
from harness.analysis.sentences.text import listed, number, plural
from harness.analysis.views.view import Row, View
from harness.inference.family import expected_extreme
from harness.metrics import Metric

WIDER = 1.05  # an interval so many times as wide is said
MOST_NAMED = 4


def sentences(view: View) -> list[Sentence]:
    """What weakens the answer, and what would settle it."""
    return [*luck(view), *settling(view)]


def luck(view: View) -> list[Sentence]:
    """How much too low the lowest FVU would be if all arms were equal: it was picked for being low."""
    # relative ones, since arms differ in FVU: by how much of its own does each vary?
    errors = [error / arm["fvu"] for arm in view.arms if (error := arm["fvu_standard_error"])]
    known = [arm for arm in view.arms if arm["fvu"] is not None]
    if len(known) < 3 or not errors:
        return []
    best = min(known, key=lambda arm: float(arm["fvu"]))
    percent = -100 * math.expm1(-expected_extreme(len(known)) * math.fsum(errors) / len(errors))
    text = (
        f"The lowest FVU of {len(known)} arms is an optimistic figure: if all were equal, the lowest would "
        f"by chance alone be {number(percent, 1)} % below their common value."
    )
    return [Sentence(text, "arms", view.arms.index(best) + 1)]


def settling(view: View) -> list[Sentence]:
    """For each outcome: how many comparisons are undecided, and what more seeds would cost that settle them."""
    pairs = [effect for effect in view.tables["effects"] if effect["kind"] == "pair"]
    return [Sentence(text, "effects") for outcome in view.outcomes for text in _settling(view, outcome, pairs)]


def _settling(view: View, outcome: Metric, pairs: list[Row]) -> Iterator[str]:
    undecided = [pair for pair in pairs if pair[outcome.verdict] == UNDECIDED]
    if not undecided:
        return
    said = f"{outcome.label}: {len(undecided)} of {plural(len(pairs), 'comparison')} undecided"
    needed = [pair[f"{outcome.short}_seeds_needed"] for pair in undecided]
    known = sorted(n for n in needed if n is not None)
    if not known:
        yield f"{said}; more than 1,000 seeds in each arm would be needed to settle any of them."
        return
    half = known[(len(known) - 1) // 2]
    cells = math.ceil(half - len(view.study.seeds)) * len(view.arms) * _cells_per_seed(view)
    yield (
        f"{said}. {half} seeds in each arm would settle {sum(n <= half for n in known)} of them "
        f"({cells:,.0f} more cells, if all arms get them; trained were {len(view.tables['cells']):,})."
    )


def _cells_per_seed(view: View) -> float:
    """The mean number of cells that one more seed of an arm takes: one, or one for each tuned setting."""
    if view.study.tuning_seeds or not view.study.tuned:
        return 1
    settings = Counter(row["arm"] for row in view.tables["tuning"])
    return sum(settings.values()) / max(1, len(settings))


def open_choices(view: View) -> Iterator[str]:
    """A warning of the arms whose tuned setting could have been another one, the least settled first."""
    factors = {arm["arm"]: arm["choice_factor"] or 1.0 for arm in view.arms}
    open_ = sorted((arm for arm in factors if factors[arm] >= WIDER), key=lambda arm: -factors[arm])
    if not open_:
        return
    named = "; ".join(f"{arm} ({number(factors[arm], 1)})" for arm in open_[:MOST_NAMED])
    more = f"; and {plural(len(open_) - MOST_NAMED, 'other')}" if len(open_) > MOST_NAMED else ""
    yield (
        f"The seeds do not settle which tuned setting is best for {plural(len(open_), 'arm')}. In brackets, how "
        f"many times as wide that makes the interval of the figure that depends most on it: {named}{more}."
    )
    if view.tables["life_effects"]:
        yield (
            f"Intervals of how often latents die and revive are at the chosen {listed(view.study.tuned)}: that "
            "the seeds do not settle this choice is not in them."
        )
