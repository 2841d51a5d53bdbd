"""The training loop: next batch, step, log, checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.training.cell import Cell
from harness.training.checkpoint import Checkpoints
from harness.training.metrics import HeldOut, Quality, evaluate

CURVE_POINTS = 12
CURVE_TOKENS = 2048  # held-out tokens behind one point of a curve; the result is measured on all of them
DIVERGED_FVU = 100.0  # an SAE that predicts the mean has 1

Batches = Callable[[int], Tensor]  # step (0-based) -> activations [batch, width], centred and scaled
Point = dict[str, float | int]


class Diverged(Exception):
    """The loss is no longer a number, or so large that training will not come back."""


@dataclass(frozen=True)
class Sinks:
    """Where a cell's progress goes."""

    point: Callable[[Point], Any]  # one point of its curves
    beat: Callable[[int], Any]  # tokens done, after every step; what it raises ends the training there


def train(
    cell: Cell, batches: Batches, held_out: HeldOut, checkpoints: Checkpoints, seconds: float, sinks: Sinks
) -> Quality:
    """Train `cell` to its end, from wherever it is, and measure it on all held-out activations.

    seconds: time between two checkpoints. Raises Diverged.
    """
    curve_set = held_out.head(CURVE_TOKENS)
    points = logging_steps(cell.recipe.steps)
    saved = time.monotonic()
    while cell.step_index < cell.recipe.steps:
        cell.step(batches(cell.step_index))
        if cell.step_index in points:
            sinks.point(curve_point(cell, curve_set))
        if time.monotonic() - saved >= seconds:
            checkpoints.save(cell.step_index, cell.state())
            saved = time.monotonic()
        sinks.beat(cell.tokens)
    with cell.evaluating():
        return evaluate(cell.code, held_out, cell.recipe.dead_window)


def logging_steps(steps: int) -> set[int]:
    """Evenly spaced numbers of steps done, the last one included; fewer where there are fewer steps."""
    return {round(steps * point / CURVE_POINTS) for point in range(1, CURVE_POINTS + 1)} - {0}


def curve_point(cell: Cell, curve_set: HeldOut) -> Point:
    """Training figures since the last point and held-out figures now. Raises Diverged."""
    training = cell.drain()
    if not math.isfinite(training["fvu"]) or training["fvu"] > DIVERGED_FVU:
        raise Diverged(f"training FVU {training['fvu']:g} at {cell.tokens} tokens")
    with cell.evaluating():
        quality = evaluate(cell.code, curve_set, CURVE_TOKENS)
    return {
        "step": cell.step_index,
        "tokens": cell.tokens,
        **{f"train_{name}": value for name, value in training.items()},
        **{f"heldout_{name}": getattr(quality, name) for name in ("mse", "nmse", "fvu", "l0")},
    }
