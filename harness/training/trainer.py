"""The training of one cell, turn by turn: it waits for its next batch, steps, logs, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.training.cell import Cell
from harness.training.checkpoint import Checkpoints
from harness.training.metrics import HeldOut, Quality, evaluate

CURVE_POINTS = 12
CURVE_TOKENS = 2048  # held-out tokens behind one point of a curve; the result is measured on all of them
CALIBRATION_TOKENS = 32_768  # training tokens that thresholds are set on for the result; CURVE_TOKENS for a point
DIVERGED_FVU = 100.0  # an SAE that predicts the mean has 1
SECONDS = "seconds"  # in a checkpoint, beside the cell's state

Point = dict[str, float | int]


class Diverged(Exception):
    """A figure is no longer a number, or FVU so large that training will not come back."""


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

    def add(self, seconds: float) -> None:
        """Count seconds of an earlier run, too."""
        self._started -= seconds


class Samples(NamedTuple):
    """What a cell is measured on."""

    held_out: HeldOut
    training: Callable[
        [int], Tensor
    ]  # n -> the first n training activations [n, width], or all if there are fewer


def train(
    cell: Cell, samples: Samples, checkpoints: Checkpoints, point: Callable[[Point], Any], clock: Stopwatch
) -> Generator[int, Turn, Quality]:
    """Train `cell` to its end, from wherever it is, and measure it on all held-out activations.

    Yields the step (0-based) whose batch it waits for, and is sent this Turn; `Cohort` does that for many cells.
    point: takes each point of the cell's curves. clock: stands still while the cell waits. Raises Diverged.
    """
    curve_set = samples.held_out.head(CURVE_TOKENS)
    points = logging_steps(cell.recipe.steps)
    while cell.step_index < cell.recipe.steps:
        with clock.paused():
            turn = yield cell.step_index
        cell.step(turn.x)
        if cell.step_index in points:
            point(curve_point(cell, samples._replace(held_out=curve_set)))
        if turn.save:
            save(cell, checkpoints, clock)
    return _measured(cell, samples, CALIBRATION_TOKENS, cell.recipe.dead_window)


def save(cell: Cell, checkpoints: Checkpoints, clock: Stopwatch) -> None:
    """Write a checkpoint."""
    seconds = torch.tensor(clock.seconds, dtype=torch.float64)
    checkpoints.save(cell.step_index, {**cell.state(), SECONDS: seconds})


def resume(cell: Cell, checkpoints: Checkpoints, clock: Stopwatch, before: float = math.inf) -> None:
    """Bring a new cell and its clock to the last checkpoint of a step below `before`, if there is one.

    Seconds that were lost since are not counted.
    """
    saved = checkpoints.load(before)
    if saved is not None:
        cell.load_state(saved)
        clock.add(float(saved[SECONDS]))


def logging_steps(steps: int) -> set[int]:
    """Evenly spaced numbers of steps done, the last one included; fewer where there are fewer steps."""
    return {round(steps * point / CURVE_POINTS) for point in range(1, CURVE_POINTS + 1)} - {0}


def curve_point(cell: Cell, samples: Samples) -> Point:
    """Training figures since the last point and held-out figures now. Raises Diverged.

    `measured_tokens`: the held-out tokens that these are of.
    """
    training = cell.drain()
    check("training", training, cell.tokens)
    quality = _measured(cell, samples, CURVE_TOKENS, CURVE_TOKENS)
    return {
        "step": cell.step_index,
        "tokens": cell.tokens,
        "measured_tokens": len(samples.held_out.x),
        **{f"train_{name}": value for name, value in training.items()},
        **{f"heldout_{name}": getattr(quality, name) for name in ("mse", "nmse", "fvu", "l0")},
    }


def _measured(cell: Cell, samples: Samples, calibration_tokens: int, dead_window: int) -> Quality:
    """Measure a cell, its thresholds set on so many training tokens where it has any. Raises Diverged."""
    with cell.evaluating():
        if cell.calibrated:
            cell.calibrate(samples.training(calibration_tokens))
        quality = evaluate(cell.code, samples.held_out, dead_window, cell.evaluation_batch)
    check("held-out", quality.as_dict(), cell.tokens)
    for number, layer in enumerate(quality.layers_as_dicts(), start=1):
        check(f"held-out, layer {number},", layer, cell.tokens)
    return quality


def check(which: str, figures: Mapping[str, float], tokens: int) -> None:
    """Raise Diverged if one of them is not finite, or FVU beyond hope: whoever reads figures need not ask."""
    for name in sorted(figures, key=lambda name: name != "fvu"):  # FVU first: if it is wrong, others are, too
        value, label = figures[name], "FVU" if name == "fvu" else name
        if not math.isfinite(value) or (name == "fvu" and value > DIVERGED_FVU):
            raise Diverged(f"{which} {label} {value:g} at {tokens} tokens")
