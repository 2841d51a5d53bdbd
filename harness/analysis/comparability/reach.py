"""Tokens to reach: how much of its reference's training does an arm need for the same error?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import polars as pl

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.arms.statistics import Interval, mean_interval
from harness.analysis.comparability.l0 import MOST_ACTIVE
from harness.analysis.effects.comparisons import Pair, compared_levels, names, pairs_of
from harness.analysis.results.records import StudyRecord

Curve: TypeAlias = list[tuple[int, float]]  # (training tokens, held-out FVU), in the order of training

HALFWAY, END = 0.5, 1.0  # shares of the reference's tokens after which its FVU is a target


def reach_rows(study: StudyRecord, arms: Sequence[Arm], curves: pl.DataFrame) -> list[dict[str, Any]]:
    """The reach table: one row a pair of arms, as in the effects table, over the seeds that both have curves of.

    `halfway_percent`: training tokens after which the arm's curve first reaches the value that the reference's
    curve of the same seed has at half of its tokens, in percent of these; the geometric mean over the `n` seeds
    with its interval. `halfway_not_reached`: seeds whose curve ends above it. With any of these there is no mean:
    that of the others would be too low. `reached`: seeds whose curve reaches the last value of the reference's.
    After how many tokens is not estimated: it is 100 % at most, since training ends there.
    """
    points = _curves(curves)
    rows = []
    for axis, level in compared_levels(study):
        for pair in pairs_of(study, arms, axis, level):
            rows.append(
                {"arm": pair.arm.label, "reference_arm": pair.reference.label}
                | names(study, axis, level, "pair", 1, pair.holding)
                | _columns(_shares(pair, points, HALFWAY), _shares(pair, points, END))
            )
    return rows


def _columns(halfway: Sequence[float | None], end: Sequence[float | None]) -> dict[str, Any]:
    known = [share for share in halfway if share is not None]
    counts = {
        "n": len(halfway),
        "reached": sum(share is not None for share in end),
        "halfway_not_reached": len(halfway) - len(known),
    }
    interval = _geometric_mean(known) if len(known) == len(halfway) else None
    return counts | interval_columns("halfway_percent", interval)


def _geometric_mean(shares: Sequence[float]) -> Interval | None:
    """With the t-interval of the logarithms: twice the tokens and half of them are equally far from 100 %."""
    mean = mean_interval([math.log(share) for share in shares])
    if mean is None:
        return None
    low, high = (None if end is None else math.exp(end) for end in (mean.low, mean.high))
    return Interval(math.exp(mean.mean), low, high, mean.n)


def tokens_to_reach(curve: Curve, target: float) -> float | None:
    """Tokens at which a curve first comes down to `target`, or None where it never does.

    Between two points log FVU is taken as linear in tokens. A curve that starts at or below the target gives the
    tokens of its first point: an upper bound.
    """
    before: tuple[int, float] | None = None
    for tokens, fvu in curve:
        if fvu <= target:
            if before is None:
                return float(tokens)
            share = math.log(before[1] / target) / math.log(before[1] / fvu)
            return before[0] + share * (tokens - before[0])
        before = tokens, fvu
    return None


def value_at(curve: Curve, tokens: float) -> float:
    """FVU at `tokens`, log FVU taken as linear between points; at the ends that of the nearest point."""
    before = curve[0]
    for point in curve:
        if point[0] >= tokens:
            share = (tokens - before[0]) / (point[0] - before[0]) if point[0] > before[0] else 0.0
            return float(before[1] * (point[1] / before[1]) ** max(0.0, share))
        before = point
    return before[1]


def _shares(pair: Pair, points: Mapping[str, Curve], part: float) -> list[float | None]:
    """For each seed that both arms have a curve of: percent of `part` of the reference's tokens to its FVU there.

    None where it is never reached.
    """
    arm, reference = (_reported(side, points) for side in (pair.arm, pair.reference))
    shares: list[float | None] = []
    for seed in sorted(arm.keys() & reference.keys()):
        until = part * reference[seed][-1][0]
        tokens = tokens_to_reach(arm[seed], value_at(reference[seed], until))
        shares.append(None if tokens is None else 100 * tokens / until)
    return shares


def _reported(arm: Arm, points: Mapping[str, Curve]) -> dict[int, Curve]:
    """By seed: the curve of the cell that the arm is reported with, where that cell is complete."""
    return {seed: points[cell.cell] for seed, cell in arm.finished().items() if cell.cell in points}


def _curves(curves: pl.DataFrame) -> dict[str, Curve]:
    usable = curves.filter(pl.col("heldout_fvu").is_finite() & (pl.col("heldout_fvu") > 0)).sort("tokens")
    final = pl.col("heldout_l0").last().over("cell")
    usable = usable.filter(pl.col("heldout_l0") <= MOST_ACTIVE * final)
    parts = usable.partition_by("cell", as_dict=True)
    return {cell: part.select("tokens", "heldout_fvu").rows() for (cell,), part in parts.items()}
