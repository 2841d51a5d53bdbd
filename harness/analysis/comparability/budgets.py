"""What a token of training costs an arm, and where its curve stands when it has spent a budget."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from harness.analysis.arms.arm import Arm
from harness.analysis.comparability.l0 import MOST_ACTIVE
from harness.analysis.results.records import CellRecord, StudyRecord
from harness.errors import SettingError
from harness.study.recipe import RECIPE_FIELDS, Recipe
from harness.study.step_time import CPU_CORE, step_work

EQUAL = 0.01  # relative: two costs within it count as equal


@dataclass(frozen=True)
class Curve:
    """Held-out FVU and latents that are silent in training, of one cell; both by rising training tokens.

    shortened: points were left out, since more latents were active than at the end.
    """

    fvu: Sequence[tuple[int, float]]
    silent: Sequence[tuple[int, float]]
    shortened: bool = False

    def fvu_at(self, tokens: float) -> float | None:
        """Log FVU is linear in log tokens between two points; None before the first and after the last."""
        logs = [(math.log(at), math.log(value)) for at, value in self.fvu]
        found = between(logs, math.log(tokens))
        return None if found is None else math.exp(found)

    def silent_at(self, tokens: float) -> float | None:
        """Linear in tokens between two points; None before a dead window has passed."""
        return between(self.silent, tokens)


def between(points: Sequence[tuple[float, float]], x: float) -> float | None:
    """The value at x, linear between the neighbours in `points`, which rise in x; None outside of them."""
    if not points:
        return None
    slack = 1e-9 * max(1.0, abs(x))
    if not points[0][0] - slack <= x <= points[-1][0] + slack:
        return None
    place = bisect_left([at for at, _ in points], x)
    right = points[min(place, len(points) - 1)]
    left = points[max(place - 1, 0)]
    share = (x - left[0]) / (right[0] - left[0]) if right[0] > left[0] else 1.0
    value = left[1] + share * (right[1] - left[1])
    return min(max(value, min(left[1], right[1])), max(left[1], right[1]))


def curves_by_cell(points: pl.DataFrame) -> dict[str, Curve]:
    """The curves of all cells; FVU only where at most 5 % more latents are active than at the end (k decay)."""
    last = pl.col("heldout_l0").drop_nulls().last().over("cell")
    points = points.sort("tokens")
    measured = points.filter((pl.col("heldout_fvu") > 0) & pl.col("heldout_fvu").is_finite())
    fvu = measured.filter(pl.col("heldout_l0") <= MOST_ACTIVE * last)
    silent = _by_cell(points.filter(pl.col("train_dead_fraction").is_not_null()), "train_dead_fraction")
    every = _by_cell(measured, "heldout_fvu")
    return {
        cell: Curve(rows, silent.get(cell, []), shortened=len(rows) < len(every[cell]))
        for cell, rows in _by_cell(fvu, "heldout_fvu").items()
    }


def _by_cell(points: pl.DataFrame, name: str) -> dict[str, list[tuple[int, float]]]:
    parts = points.partition_by("cell", as_dict=True)
    return {cell: part.select("tokens", name).rows() for (cell,), part in parts.items()}


def equal(a: float, b: float) -> bool:
    """Whether two costs count as equal: within 1 %."""
    return max(a, b) <= (1 + EQUAL) * min(a, b)


@dataclass(frozen=True)
class Costs:
    """Of training an arm. tokens: all of them; flops, seconds: for one. before_decay: tokens at the last held-out
    point of its curves before its learning rate begins to fall; warmup: those until which it rises.

    seconds: by the step model, None where it does not know the recipe.
    """

    parameters: int
    tokens: int
    flops: float
    seconds: float | None
    before_decay: float
    warmup: float


def costs_of(study: StudyRecord, arm: Arm, curves: Mapping[str, Curve]) -> Costs | None:
    """Those of the dearest of its reported cells; None where none is finished."""
    cells = list(arm.finished().values())
    if not cells:
        return None
    cell = max(cells, key=lambda cell: cell.flops_per_token)
    levels = {**cell.arm, **cell.tuned}
    decay, warmup = (float(study.value(levels, name) or 0.0) for name in ("decay", "warmup"))
    return Costs(
        parameters=cell.parameters,
        tokens=cell.tokens,
        flops=cell.flops_per_token,
        seconds=seconds_per_token(study, cell),
        before_decay=_last_point([curves[c.cell] for c in cells if c.cell in curves], (1 - decay) * cell.tokens),
        warmup=warmup * cell.tokens,
    )


def _last_point(curves: Sequence[Curve], tokens: float) -> float:
    """Where all these curves have their last point up to `tokens`; these themselves where one has none before."""
    last = [max((at for at, _ in curve.fvu if at <= tokens), default=None) for curve in curves]
    known = [float(at) for at in last if at is not None]
    return min(known) if known and len(known) == len(last) else tokens


def seconds_per_token(study: StudyRecord, cell: CellRecord) -> float | None:
    """Of a training step on one CPU core, as `harness.study.step_time` has it: the same on every machine."""
    levels: Mapping[str, object] = {**cell.arm, **cell.tuned}
    fields = {name: study.value(levels, name) for name in RECIPE_FIELDS if name in {*study.recipe, *levels}}
    try:
        recipe = Recipe(**fields)
        work = step_work(recipe, study.source["width"], study.source.get("target_width"))
    except (SettingError, TypeError, KeyError):
        return None
    return CPU_CORE.seconds(work) / recipe.batch
