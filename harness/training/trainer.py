"""The training of one cell, turn by turn: it waits for its next batch, steps, logs, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.study.curve import Point, curve_tokens, held_out_steps, logging_steps
from harness.training.cell import Cell
from harness.training.checkpoint import Checkpoints
from harness.training.metrics import HeldOut, curve_figures, reconstruction_figures
from harness.training.stream import Batch
from harness.training.trained_sae import TrainedSAE

CALIBRATION_TOKENS = (
    32_768  # training tokens that thresholds are set on in the end; as many as measured for a point
)
DIVERGED_FVU = 100.0  # an SAE that predicts the mean has 1
SECONDS, POINTS = "seconds", "points"  # in a checkpoint, beside the cell's state


class Diverged(Exception):
    """A figure is no longer a number, or FVU so large that training will not come back."""


class NextBatch(NamedTuple):
    """What a waiting cell is sent."""

    batch: Batch  # activations, centred and scaled; other cells see them too
    save: Callable[[float], Any] | None  # takes the seconds of a checkpoint after the step; None: none is wanted


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
        try:
            yield
        finally:  # a cell that is stopped waits for its next batch
            self._started += time.monotonic() - before

    def add(self, seconds: float) -> None:
        """Count seconds of an earlier run, too."""
        self._started -= seconds


class Samples(NamedTuple):
    """What a cell is measured on."""

    held_out: HeldOut
    training: Callable[[int], Tensor]  # n -> the first n training inputs [n, width], or all if there are fewer


def train(
    cell: Cell,
    samples: Samples,
    checkpoints: Checkpoints,
    point: Callable[[Point], Any],
    clock: Stopwatch,
    points: int,
) -> Generator[int, NextBatch, None]:
    """Train `cell` to its end, from wherever it is, and set its thresholds there if it has any.

    Yields the step (0-based) whose batch it waits for, and is sent this NextBatch; `Cohort` does that for many
    cells.
    point: takes each of the `points` of the cell's curve. clock: stands still while the cell waits.
    Raises Diverged.
    """
    curve_set = samples._replace(held_out=samples.held_out.head(curve_tokens(cell.recipe)))
    logged = set(logging_steps(cell.recipe.steps, points))
    held_out = held_out_steps(cell.recipe.steps, points)
    while cell.step_index < cell.recipe.steps:
        with clock.paused():
            turn = yield cell.step_index
        cell.step(*turn.batch)
        if cell.step_index in logged:
            point(curve_point(cell, curve_set if cell.step_index in held_out else None))
        if turn.save is not None:
            started = time.monotonic()
            save(cell, checkpoints, clock, points)
            turn.save(time.monotonic() - started)
    with cell.evaluating():
        _calibrate(cell, samples, CALIBRATION_TOKENS)


def score(sae: TrainedSAE, held_out: HeldOut, tokens: int) -> float:
    """FVU of all held-out activations after `tokens`, by which tuned values are chosen. Raises Diverged.

    This code belongs to training, unlike that of the reported figures: if it changed, so would the choice of tuned
    values, and with it the cells.
    """
    passed = held_out.coded_by(sae.code)
    figures = reconstruction_figures(passed.errors, passed.firings, held_out)
    check("held-out", figures, tokens)
    return figures["fvu"]


def save(cell: Cell, checkpoints: Checkpoints, clock: Stopwatch, points: int) -> None:
    """Write a checkpoint."""
    seconds = torch.tensor(clock.seconds, dtype=torch.float64)
    checkpoints.save(cell.step_index, {**cell.state(), SECONDS: seconds, POINTS: torch.tensor(points)})


def resume(cell: Cell, checkpoints: Checkpoints, clock: Stopwatch, there: Container[int], points: int) -> int:
    """Bring a new cell and its clock to the last checkpoint before which no point of its curve is missing.

    there: the steps of the points that there are. Returns the number of points of the curve that it goes on with:
    those that it was begun with, or else `points`. Seconds that were lost since are not counted.
    """

    def usable(step: int, saved: Mapping[str, Tensor]) -> bool:
        logged = logging_steps(cell.recipe.steps, int(saved[POINTS]))
        return all(at in there for at in logged if at <= step)

    saved = checkpoints.load(usable)
    if saved is None:
        return points
    cell.load_state(saved)
    clock.add(float(saved[SECONDS]))
    return int(saved[POINTS])


def curve_point(cell: Cell, samples: Samples | None) -> Point:
    """Training figures since the last point, and held-out figures now where there are samples. Raises Diverged.

    `measured_tokens`: the held-out tokens that these are of.
    """
    training = cell.drain()
    check("training", training, cell.tokens)
    point: Point = {"step": cell.step_index, "tokens": cell.tokens}
    point |= {f"train_{name}": value for name, value in training.items()}
    if samples is not None:
        tokens = len(samples.held_out.x)
        held_out = _figures(cell, samples, tokens)
        point |= {"measured_tokens": tokens, **{f"heldout_{name}": value for name, value in held_out.items()}}
    return point


def _figures(cell: Cell, samples: Samples, calibration_tokens: int) -> dict[str, float]:
    """Held-out figures of a cell, its thresholds set on so many training tokens if it has any. Raises Diverged."""
    with cell.evaluating():
        _calibrate(cell, samples, calibration_tokens)
        figures = curve_figures(cell.code, samples.held_out)
    check("held-out", figures, cell.tokens)
    return figures


def _calibrate(cell: Cell, samples: Samples, tokens: int) -> None:
    """Within `evaluating`: set its thresholds, if it has any, on so many training tokens."""
    if cell.calibrated:
        cell.calibrate(samples.training(tokens))


def check(which: str, figures: Mapping[str, float], tokens: int) -> None:
    """Raise Diverged if one of them is not finite, or FVU beyond hope: whoever reads figures need not ask."""
    for name in sorted(figures, key=lambda name: name != "fvu"):  # FVU first: if it is wrong, others are, too
        value, label = figures[name], "FVU" if name == "fvu" else name
        if not math.isfinite(value) or (name == "fvu" and value > DIVERGED_FVU):
            raise Diverged(f"{which} {label} {value:g} at {tokens} tokens")
