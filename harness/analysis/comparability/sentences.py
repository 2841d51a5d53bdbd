"""In which sense arms were compared fairly: at equal tuned values, on the frontier, at equal budgets; in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.comparability import settings_apart
from harness.analysis.comparability.planes import (
    DOMINATED,
    FLIPS,
    HOLDS,
    ONLY_HERE,
    PLANES,
    SHOWN,
    TUNING,
    front,
    point_name,
)
from harness.analysis.comparability.settings_apart import apart
from harness.analysis.results.levels import levels_in
from harness.analysis.sentences.sentence import Sentence
from harness.analysis.sentences.text import change, level_name, listed, shown
from harness.analysis.views.view import Row, View, unique
from harness.metrics import DEAD, FVU, Metric
from harness.study.labels import describe

Numbered = tuple[int, Row]  # a row of a table with its number, from 1


def sentences(view: View) -> list[Sentence]:
    """What changes at equal tuned values, what is on the frontier, and which verdicts need equal tokens."""
    return [*_equal_sentences(view), *_frontier_sentences(view), *_sense_sentences(view)]


def warnings(view: View) -> Iterator[str]:
    """Pairs of arms at different tuned values, effects at equal ones without intervals, and verdicts that flip."""
    yield from settings_apart.warnings(view)
    yield from _one_tuning_seed(view)
    yield from _flipping(view)


def _equal_sentences(view: View) -> Iterator[Sentence]:
    """One a pair of arms and outcome: where the sign of its change is not the same at all tuned values, or where
    both arms stand at different ones."""
    outcomes = [outcome for outcome in (DEAD, FVU) if outcome in view.outcomes]
    different = {(row["axis"], row["level"], row["holding"]) for row in apart(view)}
    for key, rows in _equal_rows(view):
        for outcome in outcomes:
            known = [(number, row) for number, row in rows if row[outcome.effect] is not None]
            if len(known) > 1 and (key in different or _opposite([row for _, row in known], outcome)):
                yield _at_each_setting(view, outcome, known)


def _opposite(rows: Sequence[Row], outcome: Metric) -> bool:
    """Whether estimates have both signs, and one of them is shown, or none has an interval."""
    shown_somewhere = any(row[outcome.verdict] in SHOWN for row in rows)
    unknown = all(row[outcome.verdict] == "no interval" for row in rows)
    return len({row[outcome.effect] > 0 for row in rows}) > 1 and (shown_somewhere or unknown)


def _at_each_setting(view: View, outcome: Metric, rows: Sequence[Numbered]) -> Sentence:
    (first, row), tuned = rows[0], listed(view.study.tuned)
    changes = [
        f"{change(row, outcome).removeprefix(outcome.label).strip()} at {_setting(view, row)}" for _, row in rows
    ]
    both = {row[outcome.verdict] for _, row in rows} >= {*SHOWN}
    end = f": its sign depends on {tuned}" if both else ""
    return Sentence(
        f"{_pair(view, row)} at equal {tuned}: {outcome.label} {listed(changes)}{end}.", "effects", first
    )


def _equal_rows(view: View) -> Iterator[tuple[tuple[str, str, str], list[Numbered]]]:
    """For each pair of arms (axis, level, what else is held) its rows at equal tuned values, numbered."""
    groups: dict[tuple[str, str, str], list[Numbered]] = {}
    for number, row in enumerate(view.tables["effects"], start=1):
        if row["kind"] == "equal":
            groups.setdefault((row["axis"], row["level"], row["holding"]), []).append((number, row))
    yield from groups.items()


def _setting(view: View, row: Row) -> str:
    """As in `lr 0.016`."""
    return describe(levels_in(row, view.study.tuned))


def _frontier_sentences(view: View) -> Iterator[Sentence]:
    plane, rows = PLANES[0], view.tables["frontier"]
    on = front(rows, plane)
    if on:
        points = [f"{point_name(view.study, row)} (FVU {shown(row, FVU)}, {shown(row, DEAD)} dead)" for row in on]
        yield Sentence(
            f"In the means no setting of any arm has a lower FVU and fewer dead latents at no higher L0 than "
            f"{'; '.join(points)}.",
            "frontier",
            rows.index(on[0]) + 1,
        )
    groups: dict[tuple[str, ...], list[Row]] = {}  # by what dominates
    for arm in unique(row["arm"] for row in rows):
        known = [row for row in rows if row["arm"] == arm and row[f"{plane.name}_place"] is not None]
        if known and all(row[f"{plane.name}_place"] == DOMINATED for row in known):
            dominating = tuple(sorted({str(row[f"{plane.name}_dominated_by"]) for row in known}))
            groups.setdefault(dominating, []).append(known[0])
    for by, first in groups.items():
        arms = listed([f"“{row['arm']}”" for row in first])
        yield Sentence(
            f"At every setting dominated in FVU and dead latents: {arms}, by {listed(by)}.",
            "frontier",
            rows.index(first[0]) + 1,
            "worse",
        )


def _sense_sentences(view: View) -> Iterator[Sentence]:
    """One a pair of arms whose verdict on FVU is not the same in every sense; it points to the first such row."""
    pairs: dict[tuple[str, str], list[Numbered]] = {}
    for number, row in enumerate(view.tables["senses"], start=1):
        pairs.setdefault((row["axis"], row["arm"]), []).append((number, row))
    for here in pairs.values():
        others = [(number, row) for number, row in here if row["fvu_against_tokens"] not in (None, HOLDS)]
        if others:
            clauses = [f"{_sense(row)} {_changed(row)}" for _, row in [here[0], *others]]
            yield Sentence(f"{_pair(view, here[0][1])}: {'; '.join(clauses)}.", "senses", others[0][0])


def _pair(view: View, row: Row) -> str:
    """As in `dense 2-2 instead of none (adam)`."""
    where = f" ({row['holding']})" if row["holding"] else ""
    return f"{level_name(view.study, row)} instead of {row['reference']}{where}"


def _sense(row: Row) -> str:
    """As in `at equal training FLOPs (before the decay)`."""
    return f"at equal {row['sense']} ({row['at']})"


def _changed(row: Row) -> str:
    told = {FLIPS: ": the verdict flips", ONLY_HERE: ", shown here only"}.get(row["fvu_against_tokens"], "")
    return f"{change(row, FVU)}, {row[FVU.verdict]}{told}"


def _one_tuning_seed(view: View) -> Iterator[str]:
    if len(view.study.tuning_seeds) == 1 and any(row["seeds"] == TUNING for row in view.tables["effects"]):
        tuned = listed(view.study.tuned)
        yield (
            f"One tuning seed: effects at equal {tuned}, and settings that were not chosen, rest on it alone and "
            "have no intervals."
        )


def _flipping(view: View) -> Iterator[str]:
    """Verdicts that are the opposite in another sense, pair by pair."""
    for outcome, verdict in ((FVU, "fvu_against_tokens"), (DEAD, "dead_against_tokens")):
        pairs: dict[str, list[str]] = {}
        for row in view.tables["senses"]:
            if row[verdict] == FLIPS:
                pairs.setdefault(_pair(view, row), []).append(f"{row['sense']} ({row['at']})")
        if pairs:
            told = "; ".join(f"{pair}, at equal {listed(senses)}" for pair, senses in pairs.items())
            yield f"A verdict on {outcome.label} flips where something else than tokens is equal: {told}."
