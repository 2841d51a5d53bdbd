"""What a level of an axis changes in the life of latents: do they die less often, do they revive more often?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.arms.statistics import Interval
from harness.analysis.effects.comparisons import compared_levels, names, pairs_of
from harness.analysis.life.hazards import ratio_interval
from harness.analysis.life.lives import KINDS, after_first, dispersions, events_of, lives_of
from harness.analysis.results.records import StudyRecord
from harness.analysis.sentences.sentence import Sentence
from harness.analysis.sentences.text import bracket, level_name, number
from harness.analysis.views.view import Row, View

WORDS = {"death": "living latents die", "revival": "dead ones revive"}
JUDGED = {("death", "lower"): "better", ("death", "higher"): "worse"}
JUDGED |= {("revival", "higher"): "better", ("revival", "lower"): "worse"}


def life_effect_rows(study: StudyRecord, arms: Sequence[Arm], curves: pl.DataFrame) -> list[dict[str, Any]]:
    """One row a pair of arms, as in the effects table; no rows where curves do not count deaths.

    `death_ratio`, `revival_ratio`: the arm's hazard after the first dead window as a multiple of the reference's;
    none where the reference's is 0. `{kind}_verdict`: on which side of 1 the whole interval lies.
    """
    lives = {name: after_first(life) for name, life in lives_of(study, arms, curves).items()}
    spread = dispersions(list(lives.values()))
    rows = []
    for axis, level in compared_levels(study):
        for pair in pairs_of(study, arms, axis, level):
            life, reference = lives.get(pair.arm.label), lives.get(pair.reference.label)
            if life and reference:
                row: dict[str, Any] = {"arm": pair.arm.label, "reference_arm": pair.reference.label}
                row |= names(study, axis, level, "pair", 1, pair.holding)
                row |= {"n": len(life), "n_reference": len(reference)}
                for kind in KINDS:
                    ratio = ratio_interval(events_of(life, kind), events_of(reference, kind), spread[kind])
                    row |= interval_columns(f"{kind}_ratio", ratio) | {f"{kind}_verdict": _verdict(ratio)}
                rows.append(row)
    return rows


def _verdict(ratio: Interval | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "no interval"
    return "lower" if ratio.high < 1 else "higher" if ratio.low > 1 else "undecided"


def sentences(view: View) -> list[Sentence]:
    """One for each pair of arms in which latents plainly die or revive at another rate."""
    found = []
    for place, row in enumerate(view.tables["life_effects"], start=1):
        decided = [kind for kind in KINDS if row[f"{kind}_verdict"] in ("lower", "higher")]
        if decided:
            where = f" ({row['holding']})" if row["holding"] else ""
            subject = f"{level_name(view.study, row)} instead of {row['reference']}{where}"
            clauses = " and ".join(f"{WORDS[kind]} {_times(row, kind)}" for kind in decided)
            judged = {JUDGED[kind, row[f"{kind}_verdict"]] for kind in decided}
            judgement = judged.pop() if len(judged) == 1 else "level"
            text = f"{subject}: after the first dead window {clauses}."
            found.append(Sentence(text, "life_effects", place, judgement))
    return found


def _times(row: Row, kind: str) -> str:
    name = f"{kind}_ratio"
    return f"{number(row[name], 2)} times as often {bracket(row, name, 2)}"
