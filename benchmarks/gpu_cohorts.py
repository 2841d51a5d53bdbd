"""What a sweep adds to its cells' steps on a GPU: cohorts that read a store on disk, and small cells at once.

All is real but for the language model: a store on the local disk, its windows, the batches, the cohort, cells with
points of their curves. In one process, so that a step alone and a cohort's are of the same minutes.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.shape import LR, Shape
from benchmarks.table import Value, table
from harness.activations.store_writer import StoreWriter
from harness.study import checkpoint_times
from harness.study.concurrency import cells_at_once
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.checkpoint import Checkpoints
from harness.training.cohort import Cohort
from harness.training.data import Batches, Data
from harness.training.graph import forget_shared_memory
from harness.training.streams import streams_of
from harness.training.trainer import NextBatch, Samples, Stopwatch, curve_point, save, train

WARM = 8  # turns nobody looks at: kernels are compiled, graphs are captured
ALONE = 50  # steps of the cell that is timed alone, three times
HOST = 10  # turns after waiting for the GPU, in which the processor need not wait for it
EVERY = 64  # steps for a point of a curve: as 40 points of 21 million tokens at 8,192 a batch
GENERATED = 2**15  # tokens at once


@dataclass(frozen=True)
class Trial:
    """One size of cell, and how long to look."""

    shape: Shape
    steps: int
    window: int  # tokens
    windows: int
    held_out: int
    cells: int = 12


LARGE = Trial(Shape(768, 24_576, 32, 8192), steps=200, window=131_072, windows=3, held_out=4096)
SMALL = Trial(Shape(256, 4096, 32, 4096), steps=400, window=131_072, windows=2, held_out=4096)
QUICK = Trial(Shape(32, 256, 8, 256), steps=WARM + HOST + 2, window=1024, windows=3, held_out=512, cells=3)
AT_ONCE = (1, 2, 4, 8)  # small cells
WANTED, WANTED_SMALL = 0.95, 0.8


@dataclass
class Run:
    """What a cohort came to."""

    ms: float  # per turn
    host_ms: float  # per turn, of the processor
    mib: int | None  # of the device, reserved at the peak
    cells: dict[str, Cell]


def cohorts(device: torch.device, *, quick: bool) -> str:
    """Both tables."""
    large, small = (QUICK, QUICK) if quick else (LARGE, SMALL)
    with tempfile.TemporaryDirectory() as folder:
        text, flops = from_disk(large, Path(folder) / "large", device)
        return f"{text}\n{at_once(small, Path(folder) / 'small', device, flops)}"


def from_disk(trial: Trial, folder: Path, device: torch.device) -> tuple[str, float]:
    """Tokens of all cells per second, of a step alone and of a cohort; FLOPs per second of the step alone."""
    data = _data(trial, folder, device)
    alone = _alone(trial, data)
    run = _cohort(trial, data, at_once=cells_at_once(_recipes(trial).values()))
    ratio = trial.cells * alone / run.ms
    checkpoint = trial.cells * _checkpoint(next(iter(run.cells.values())), folder / "checkpoints")
    pause = max(checkpoint_times.SECONDS, checkpoint * (1 / checkpoint_times.SHARE - 1))
    rows: list[list[Value]] = [
        ["a step alone, ms", alone],
        [f"a turn of {trial.cells} cells, ms", run.ms],
        ["of it, what the processor does, ms", run.host_ms],
        ["tokens of all cells per second, steps alone", round(1e3 * trial.shape.batch / alone)],
        ["tokens of all cells per second, cohort", round(1e3 * trial.cells * trial.shape.batch / run.ms)],
        [f"ratio (wanted: {WANTED})", ratio],
        ["a checkpoint of all cells, s", checkpoint],
        [f"ratio with a checkpoint every {pause:.0f} s", ratio * pause / (pause + checkpoint)],
        ["memory reserved at the peak, MiB", run.mib],
    ]
    return table([f"{trial.cells} cells, {trial.shape}, from disk", ""], rows), _flops(trial) / alone


def at_once(trial: Trial, folder: Path, device: torch.device, large: float) -> str:
    """Small cells one after the other and at once; `large`: FLOPs per millisecond of a large one's step."""
    data = _data(trial, folder, device)
    usual, first = cells_at_once(_recipes(trial).values()), None
    _alone(trial, data)  # with it the kernels of evaluation: the first row is not to be timed compiling them
    rows: list[list[Value]] = []
    for count in AT_ONCE if device.type == "cuda" else (1,):
        run = _cohort(trial, data, at_once=count)
        first = first or _states(run.cells)
        same = "the same" if _equal(first, _states(run.cells)) else "DIFFERENT"
        share = trial.cells * _flops(trial) / run.ms / large
        name = f"{count}, as a sweep does" if count == usual else str(count)
        rows.append([name, run.ms / trial.cells, run.host_ms / trial.cells, share, run.mib, same])
        del run  # its cells and graphs are not to lie there beside the next ones
    heads = ["at once", "ms per cell's step", "processor, ms", f"FLOPs of large (wanted: {WANTED_SMALL})"]
    return table([f"{trial.cells} cells, {trial.shape}: {heads[0]}", *heads[1:], "MiB", "bits"], rows)


def _flops(trial: Trial) -> float:
    """Of the encoder's product of one step."""
    shape = trial.shape
    return 2.0 * shape.width * shape.latents * shape.batch


def _recipes(trial: Trial) -> dict[str, Recipe]:
    """They differ in their rates."""
    shape = trial.shape
    return {
        f"cell {number}": Recipe(
            latents=shape.latents,
            k=shape.k,
            batch=shape.batch,
            tokens=trial.steps * shape.batch,
            lr=LR * (1 + number / trial.cells),
            precision="bfloat16",
        )
        for number in range(trial.cells)
    }


def _alone(trial: Trial, data: Data) -> float:
    """Milliseconds of a step on batches that lie on the device, the median of three groups."""
    cell = Cell(next(iter(_recipes(trial).values())), data.width, data.device, data.centring)
    batches = [data.centred(data.read(cell.recipe, step)) for step in range(2)]
    times = []
    for steps in (WARM, ALONE, ALONE, ALONE) if data.device.type == "cuda" else (1, 1, 1, 1):
        _wait(data.device)
        start = time.perf_counter()
        for step in range(steps):
            cell.step(*batches[step % 2])
        _wait(data.device)
        times.append(1e3 * (time.perf_counter() - start) / steps)
    curve_point(cell, Samples(data.held_out, data.training))  # nobody is timed compiling the kernels of evaluation
    return float(np.median(times[1:]))


@dataclass
class _Watch:
    """Called after each cell's step; times turns from the warm ones on."""

    device: torch.device
    cells: int
    calls: int = 0
    start: float = 0.0
    host: float = field(default=0.0)

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == WARM * self.cells:
            _wait(self.device)
            self.start = time.perf_counter()
        elif self.calls == (WARM + HOST) * self.cells:
            self.host = time.perf_counter() - self.start


def _cohort(trial: Trial, data: Data, at_once: int) -> Run:
    """Train cells as a worker does, without checkpoints."""
    gc.collect()  # cells of before
    forget_shared_memory()  # as a worker does between two jobs: of other streams' graphs, and of larger cells'
    gpu = data.device.type == "cuda"
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    recipes = _recipes(trial)
    cells = {name: Cell(recipe, data.width, data.device, data.centring) for name, recipe in recipes.items()}
    watch = _Watch(data.device, trial.cells)
    longest = next(iter(recipes.values()))
    batches = Batches(lambda: data, longest)
    cohort: Cohort[None] = Cohort(
        {name: _training(cell, data) for name, cell in cells.items()}, streams=streams_of(data.device, at_once)
    )
    cohort.train(batches.read, 1e9, watch, batches.centred, batches.steps)
    _wait(data.device)
    ms = 1e3 * (time.perf_counter() - watch.start) / (trial.steps - WARM)
    mib = round(torch.cuda.max_memory_reserved() / 2**20) if gpu else None
    return Run(ms, 1e3 * watch.host / HOST, mib, cells)


def _training(cell: Cell, data: Data) -> Generator[int, NextBatch, None]:
    samples = Samples(data.held_out, data.training)
    points = max(1, cell.recipe.steps // EVERY)
    yield from train(cell, samples, Checkpoints(Path()), lambda point: None, Stopwatch(), points)


def _checkpoint(cell: Cell, folder: Path) -> float:
    """Seconds of one cell's."""
    start = time.perf_counter()
    save(cell, Checkpoints(folder), Stopwatch(), 1)
    return time.perf_counter() - start


def _states(cells: Mapping[str, Cell]) -> dict[str, dict[str, Tensor]]:
    return {name: {key: value.cpu() for key, value in cell.state().items()} for name, cell in cells.items()}


def _equal(one: Any, other: Any) -> bool:
    return all(torch.equal(one[name][key], other[name][key]) for name in one for key in one[name])


def _data(trial: Trial, folder: Path, device: torch.device) -> Data:
    """A store that the project's own writer has written, opened."""
    folder.mkdir()
    tokens = {"train": trial.windows * trial.window, "held_out": trial.held_out}
    writer = StoreWriter(folder, tokens, trial.shape.width, "float16")
    generator = torch.Generator(device).manual_seed(0)
    rank = max(1, trial.shape.width // 4)
    directions = torch.randn(rank, trial.shape.width, generator=generator, device=device)
    directions *= torch.arange(1, rank + 1, device=device).pow(-0.5).unsqueeze(1)
    for split, count in tokens.items():
        for start in range(0, count, GENERATED):
            here = np.arange(start, min(count, start + GENERATED))
            codes = torch.randn(len(here), rank, generator=generator, device=device).relu_()
            noise = torch.randn(len(here), trial.shape.width, generator=generator, device=device)
            writer.put(split, here, (codes @ directions + 0.1 * noise).cpu().numpy())
    writer.finish(hook="none", model="none", model_fingerprint="none", window=trial.window)
    return Data(folder, device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_cohorts", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on a CPU if need be")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(cohorts(device, quick=options.quick))


if __name__ == "__main__":
    main()
