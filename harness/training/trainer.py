"""The training of one cell, turn by turn: it waits for its next batch, steps, logs, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor

from harness.training.cell import Cell
from harness.training.checkpoint import Checkpoints
from harness.training.metrics import HeldOut, Quality, evaluate

CURVE_POINTS = 12
CURVE_TOKENS = 2048  # held-out tokens behind one point of a curve; the result is measured on all of them
DIVERGED_FVU = 100.0  # an SAE that predicts the mean has 1

Point = dict[str, float | int]


class Diverged(Exception):
    """The loss is no longer a number, or so large that training will not come back."""


class Turn(NamedTuple):
    """What a waiting cell is sent."""

    x: Tensor  # activations [batch, width], centred and scaled; other cells see them too
    save: bool  # whether to checkpoint after the step


class Stopwatch:
    """Seconds since it was made, without those in which it was paused."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        self._started += time.monotonic() - before


def train(
    cell: Cell, held_out: HeldOut, checkpoints: Checkpoints, point: Callable[[Point], Any], clock: Stopwatch
) -> Generator[int, Turn, Quality]:
    """Train `cell` to its end, from wherever it is, and measure it on all held-out activations.

    Yields the step (0-based) whose batch it waits for, and is sent this Turn; `Cohort` does that for many cells.
    point: takes each point of the cell's curves. clock: stands still while the cell waits. Raises Diverged.
    """
    curve_set = held_out.head(CURVE_TOKENS)
    points = logging_steps(cell.recipe.steps)
    while cell.step_index < cell.recipe.steps:
        with clock.paused():
            turn = yield cell.step_index
        cell.step(turn.x)
        if cell.step_index in points:
            point(curve_point(cell, curve_set))
        if turn.save:
            checkpoints.save(cell.step_index, cell.state())
    with cell.evaluating():
        return evaluate(cell.code, held_out, cell.recipe.dead_window, cell.evaluation_batch)


def logging_steps(steps: int) -> set[int]:
    """Evenly spaced numbers of steps done, the last one included; fewer where there are fewer steps."""
    return {round(steps * point / CURVE_POINTS) for point in range(1, CURVE_POINTS + 1)} - {0}


def curve_point(cell: Cell, curve_set: HeldOut) -> Point:
    """Training figures since the last point and held-out figures now. Raises Diverged."""
    training = cell.drain()
    if not math.isfinite(training["fvu"]) or training["fvu"] > DIVERGED_FVU:
        raise Diverged(f"training FVU {training['fvu']:g} at {cell.tokens} tokens")
    with cell.evaluating():
        quality = evaluate(cell.code, curve_set, CURVE_TOKENS, cell.evaluation_batch)
    return {
        "step": cell.step_index,
        "tokens": cell.tokens,
        **{f"train_{name}": value for name, value in training.items()},
        **{f"heldout_{name}": getattr(quality, name) for name in ("mse", "nmse", "fvu", "l0")},
    }
