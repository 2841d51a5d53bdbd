"""The life of latents: when those of each arm die, and whether they revive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.life.hazards import Dispersion, rate_interval
from harness.analysis.life.lives import KINDS, Life, after_first, dispersions, events_of, lives_of
from harness.analysis.results.levels import columns
from harness.analysis.results.records import StudyRecord
from harness.analysis.sentences.sentence import Sentence
from harness.analysis.sentences.text import estimate, number
from harness.analysis.views.view import Row, View


def life_rows(study: StudyRecord, arms: Sequence[Arm], curves: pl.DataFrame) -> list[dict[str, Any]]:
    """The life table; no rows where curves do not count deaths. Counts are of the `n` seeds together.

    `kind`, in this order for each arm:
    `first window`: `died` are the latents that had not fired for a whole dead window at the first point where one
    was full. Since when is not known (censored on the left), so there is no hazard.
    `point`: what happened since the point before. Those who `died` last fired between `last_fired_from` and
    `last_fired_to` tokens. Which latents have fallen silent after the last of these is not known yet (censored on
    the right).
    `training`: all points after the first window together.

    `death_hazard`: deaths per million tokens and living latent; `revival_hazard`: revivals per million tokens and
    dead latent. A death and a revival that undo each other between two points are not seen.
    """
    lives = lives_of(study, arms, curves)
    over_training = dispersions([after_first(life) for life in lives.values()])
    rows = []
    for arm in arms:
        if life := lives.get(arm.label):
            window, named = study.dead_window_at(arm.levels), {"arm": arm.label, **columns(arm.levels)}
            rows += [named | row for row in _arm_rows(life, window, over_training)]
    return rows


def _arm_rows(life: Life, window: int, over_training: Mapping[str, Dispersion]) -> Iterator[dict[str, Any]]:
    points: list[Life] = [[[step] for step in steps] for steps in zip(*life, strict=True)]
    spread = dispersions([point for point in points if not point[0][0].first])
    for point in points:
        yield _row("first window" if point[0][0].first else "point", point, window, spread)
    if later := after_first(life):
        yield _row("training", later, window, over_training)


def _row(kind: str, life: Life, window: int, spread: Mapping[str, Dispersion]) -> dict[str, Any]:
    start, end = life[0][0].start, life[0][-1].end
    row = {
        "kind": kind,
        "tokens_from": start,
        "trained_tokens": end,
        "n": len(life),
        "latents": sum(steps[0].latents for steps in life),
        "dead_before": sum(steps[0].dead for steps in life),
        "died": sum(step.died for steps in life for step in steps),
        "revived": sum(step.revived for steps in life for step in steps),
        "last_fired_from": max(0, start - window),
        "last_fired_to": max(0, end - window),
    }
    for event in KINDS:
        known = None if kind == "first window" else rate_interval(events_of(life, event), spread[event])
        row |= interval_columns(f"{event}_hazard", known)
    return row


def sentences(view: View) -> list[Sentence]:
    """For each arm: how many latents were dead when that could first be said, and what happened to them since."""
    rows = list(enumerate(view.tables["life"], start=1))
    found = []
    for place, row in rows:
        if row["kind"] == "training":
            before = [other for _, other in rows if other["arm"] == row["arm"] and other["kind"] != "training"]
            found.append(Sentence(_told(before, row), "life", place))
    return found


def _told(points: Sequence[Row], row: Row) -> str:
    """As in `none: 0.2 % of the latents dead at 33,792 tokens, the first full window; since then ...`."""
    start = ""
    if points[0]["kind"] == "first window":
        share = number(100 * points[0]["died"] / points[0]["latents"], 1)
        start = f"{share} % of the latents dead at {points[0]['trained_tokens']:,} tokens, the first full window; "
    deaths, revivals = (estimate(row, f"{kind}_hazard", 2) for kind in KINDS)
    return (
        f"{row['arm']}: {start}since then, per million tokens, {deaths} deaths per living latent and {revivals} "
        f"revivals per dead one{_half(points)}."
    )


def _half(points: Sequence[Row]) -> str:
    """By which point half of all deaths were seen."""
    half, seen = sum(row["died"] for row in points) / 2, 0
    for row in points:
        seen += row["died"]
        if seen >= half > 0:
            tokens = f"{row['trained_tokens']:,} tokens (last fired by {row['last_fired_to']:,})"
            return f"; half of all deaths by {tokens}"
    return ""
