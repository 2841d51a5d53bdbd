"""Small cells on random activations, and their training with a kill in the middle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from harness.evaluation.quality import measure
from harness.study.catalogue import SPARSIFIERS
from harness.study.curve import POINTS, Point
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.centring import Centring
from harness.training.checkpoint import Checkpoints
from harness.training.cohort import Cohort
from harness.training.metrics import HeldOut
from harness.training.sae_files import SAEConfig
from harness.training.stream import Batch, Order
from harness.training.trained_sae import TrainedSAE
from harness.training.trainer import Samples, Stopwatch, train

WIDTH, BATCH, STEPS = 8, 32, 20
DATA = torch.randn(1024, WIDTH, generator=torch.Generator().manual_seed(0))
HELD_OUT = HeldOut(torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(1)), scale=1.0)
SAMPLES = Samples(HELD_OUT, lambda tokens: DATA[:tokens])
ORDER = Order(BATCH, seed=0, tokens=len(DATA), window=300)
MEAN = torch.linspace(-1, 1, WIDTH)
STD = torch.linspace(0.5, 2, WIDTH)
CENTRING = Centring(MEAN, torch.ones(()), STD)


def recipe(**changes: Any) -> Recipe:
    """Of 20 steps on 32 tokens; a sparsifier that charges for activity has a weight for it."""
    charged = "sparsity" in SPARSIFIERS[changes.get("sparsifier", "topk")].reads
    given = {"latents": 32, "k": 4, "tokens": STEPS * BATCH, "batch": BATCH, "dead_window": 64, "lr": 3e-3}
    return Recipe(**{**given, "sparsity": 0.1 if charged else None, **changes})


def cell(micro_batches: int = 1, **changes: Any) -> Cell:
    return Cell(recipe(**changes), WIDTH, torch.device("cpu"), CENTRING, micro_batches)


def batches(step: int) -> Batch:
    x = DATA[rows_of(ORDER, step)]
    return Batch(x, x)


def rows_of(order: Order, step: int) -> torch.Tensor:
    """The places in the store of a batch's tokens."""
    pieces = order.pieces(step)
    rows = [piece.order.window * order.window + piece.order.rows()[piece.start : piece.stop] for piece in pieces]
    return torch.from_numpy(np.concatenate(rows))


class Killed(Exception):
    """With the points of the curve so far."""

    def __init__(self, points: list[Point]) -> None:
        self.points = points


def measured(cell: Cell) -> SimpleNamespace:
    """What is said of a cell in the end."""
    return SimpleNamespace(**measure(TrainedSAE.of(cell, SAEConfig(cell.recipe, CENTRING, CENTRING)), HELD_OUT))


def run(
    cell: Cell, checkpoints: Checkpoints, stop_at: int | None = None, count: int = POINTS
) -> tuple[SimpleNamespace, list[Point]]:
    """Train to the end; or with a checkpoint after every step until it is killed after `stop_at` of them."""
    points: list[Point] = []

    def beat() -> None:
        if cell.step_index == stop_at:
            raise Killed(points)

    training = train(cell, SAMPLES, checkpoints, points.append, Stopwatch(), count)
    Cohort({"it": training}).train(batches, 0.0 if stop_at else 1e9, beat)
    return measured(cell), points
