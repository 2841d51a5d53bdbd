"""A worker: trains and measures one cohort of cells after another, as it reads them from its standard input.

Run as `python -m harness.workers.worker`. Each line is a Job in JSON; the worker answers with JSON lines:
`{"tokens": {cell: n, ...}}` while cells train, `{"full": path}` while a file waits for space on a full disk, and
`{"cell": cell, "end": how}` when a cell has ended (see `run_cell`). It ends when its input ends, when nothing
reads its answers any more, or after SIGTERM, for which it saves checkpoints.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.evaluation.language_model import open_run
from harness.files import when_full
from harness.sae import native
from harness.study import checkpoint_times
from harness.study.concurrency import cells_at_once
from harness.study.recipe import Recipe
from harness.training.cohort import Cohort, Stopped
from harness.training.data import Batches, MakeWindow, open_data
from harness.training.graph import forget_shared_memory
from harness.training.streams import streams_of
from harness.workers.cell_folder import CellFolder
from harness.workers.failures import End
from harness.workers.job import Job
from harness.workers.measure_cell import measure_cell
from harness.workers.run_cell import run_cell

BEAT_SECONDS = 0.2
PR_SET_PDEATHSIG = 1  # of prctl


class Messages:
    """JSON lines to the controller; if the controller is gone, the next line ends this process."""

    def __init__(self) -> None:
        # Output of libraries must not mix with the messages: it goes to standard error.
        self._file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._last = 0.0
        self._is_set: dict[str, int] = {}  # how far the cells were then
        self.stop = False
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the controller handles Ctrl-C

    def _on_sigterm(self, *_: object) -> None:
        self.stop = True

    def send(self, **message: Any) -> None:
        try:
            self._file.write(json.dumps(message) + "\n")
        except BrokenPipeError:
            os._exit(1)

    def beat(self, waiting: dict[str, int], batch: int) -> None:
        """Send, now and then, how far the cells are. Raises Stopped if they are to end.

        Nothing is sent as long as no cell goes on: a worker that waits for ever for a batch hangs.
        """
        if self.stop:
            raise Stopped
        if time.monotonic() - self._last >= BEAT_SECONDS and waiting != self._is_set:
            self._last, self._is_set = time.monotonic(), dict(waiting)
            self.send(tokens={cell: step * batch for cell, step in waiting.items()})

    def full(self, path: Path) -> None:
        """Tell the controller that a file waits for space, so that it does not take this worker for hung."""
        self.send(full=str(path))

    def end(self, cell: str, how: End) -> None:
        """Send how a cell ended, after freeing its memory for the others."""
        if how in ("failed", "out_of_memory"):
            gc.collect()  # the exception held references to tensors
            torch.cuda.empty_cache()
        self.send(cell=cell, end=how)


def run_job(job: Job, messages: Messages) -> None:
    """Train the cells of a job to their ends and measure them, or until SIGTERM."""
    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    if device.index is not None:
        torch.cuda.set_device(device)  # what names no device is then there, too
    if device.type != "cpu":
        _share_gpu(device, job.limit)
    data = partial(open_data, job.activations, job.device, job.fingerprint, open_stream)
    language_model = partial(open_run, job.activations, job.device)
    recipes = {Path(folder): Recipe(**recipe) for folder, recipe in job.cells.items()}
    longest = max(recipes.values(), key=lambda recipe: recipe.steps)  # they agree in what decides the batches
    batches = Batches(data, longest)
    cells = {}
    for path, recipe in recipes.items():
        if CellFolder(path, job.pruned_by).result() is None:
            cells[path.name] = run_cell(
                path,
                recipe,
                data,
                micro_batches=job.micro_batches,
                pruned_by=job.pruned_by,
                points=job.points,
                measurements=job.measurements,
                language_model=language_model,
            )
        elif messages.stop:
            messages.end(path.name, "stopped")
        else:
            how = measure_cell(
                path,
                recipe,
                data,
                job.measurements,
                language_model=language_model,
                micro_batches=job.micro_batches,
            )
            messages.end(path.name, how)
    at_once = cells_at_once(recipes.values()) if job.micro_batches == 1 else 1
    cohort = Cohort(cells, messages.end, streams_of(device, at_once))
    cohort.train(
        batches.read,
        checkpoint_times.SECONDS if job.checkpoint_seconds is None else job.checkpoint_seconds,
        lambda: messages.beat(cohort.waiting, longest.batch),
        batches.centred,
        batches.steps,
        checkpoint_times.SHARE if job.checkpoint_seconds is None else 1.0,
    )


def _share_gpu(device: torch.device, limit: int | None) -> None:
    """Take no more of a GPU than `limit` bytes, and begin with no memory of cells of earlier jobs."""
    gc.collect()  # cells and their optimizers hang together in circles
    forget_shared_memory()
    torch.cuda.empty_cache()
    if limit is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device.index)  # None: the current one


def open_stream(store: Path, device: torch.device) -> MakeWindow:
    """What makes the training windows of a streamed store: it loads the language model."""
    from harness.activations.windows import WindowMaker

    maker = WindowMaker.open(store, device)

    def window(number: int) -> list[Tensor]:
        made = maker.window("train", number)
        if device.type == "cpu":
            _give_back_memory()
        return made

    return window


def _give_back_memory() -> None:
    """Return free memory to the kernel, where the C library can (glibc).

    Workers keep what was freed, since the next step wants as much again (`harness.engines.pool.ALLOCATOR`). But
    what a language model's pass has freed is in pieces, of which the next window uses only some.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main() -> None:
    """Run the jobs on standard input."""
    _die_with_parent()
    messages = Messages()
    when_full.set(messages.full)
    _get_ready()
    for line in sys.stdin:
        run_job(Job.from_line(line), messages)
        if messages.stop:
            sys.stderr.flush()
            os._exit(0)  # all cells are on disk: no thread that makes activations is waited for


def _get_ready() -> None:
    """Load now what the first cell will need, while the controller still opens its databases."""
    native.library()
    torch.optim.SGD(
        [torch.nn.Parameter(torch.zeros(1))]
    )  # the first optimizer imports torch's compiler: two seconds


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, whatever it is doing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    atexit.register(gc.freeze)  # freeing the objects of torch one by one would take a second
    main()
