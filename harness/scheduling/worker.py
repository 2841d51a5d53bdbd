"""A worker: trains one cohort of cells after another, as told line by line on its standard input.

Run as `python -m harness.scheduling.worker`. Each line is a Job in JSON; the worker answers with JSON lines:
`{"tokens": {cell: n, ...}}` while they train, `{"full": path}` while a file waits for room on a disk that is full,
and `{"cell": cell, "end": how}` when one has ended, see `run_cell`.
It ends when its input ends, when nobody reads its answers any more, or on SIGTERM, which first checkpoints.
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

from harness.files import when_full
from harness.sae import native
from harness.scheduling.cell_run import End, run_cell
from harness.scheduling.job import Job
from harness.study.recipe import Recipe
from harness.training.cohort import Cohort, Stopped
from harness.training.data import Batches, open_data

BEAT_SECONDS = 0.2
PR_SET_PDEATHSIG = 1  # of prctl


class Messages:
    """JSON lines to the controller; one that is gone ends this process at the next line."""

    def __init__(self) -> None:
        # Libraries that print must not disturb the messages: what they write goes to standard error.
        self._file = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._last = 0.0
        self.stop = False
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the controller, which says what to do

    def _on_sigterm(self, *_: object) -> None:
        self.stop = True

    def send(self, **message: Any) -> None:
        try:
            self._file.write(json.dumps(message) + "\n")
        except BrokenPipeError:
            os._exit(1)

    def beat(self, waiting: dict[str, int], batch: int) -> None:
        """Say now and then how far the cells are. Raises Stopped when they are to end."""
        if self.stop:
            raise Stopped
        if time.monotonic() - self._last >= BEAT_SECONDS:
            self._last = time.monotonic()
            self.send(tokens={cell: step * batch for cell, step in waiting.items()})

    def full(self, path: Path) -> None:
        """Say that a file waits for room: to the controller, who takes silence for hanging and can tell people."""
        self.send(full=str(path))

    def end(self, cell: str, how: End) -> None:
        """Say how a cell ended, once its memory is free for the others."""
        if how in ("failed", "crowded"):
            gc.collect()  # what went wrong kept hold of the tensors around it
            torch.cuda.empty_cache()
        self.send(cell=cell, end=how)


def run_job(job: Job, messages: Messages) -> None:
    """Train the cells of a job to their ends, or until SIGTERM."""
    torch.set_num_threads(job.threads)
    data = partial(open_data, job.activations, job.device, job.fingerprint)
    recipes = {Path(folder): Recipe(**recipe) for folder, recipe in job.cells.items()}
    shared = next(iter(recipes.values()))  # in what decides the batches
    batches = Batches(data, shared)
    cells = {
        path.name: run_cell(path, recipe, data, micro_batches=job.micro_batches, pruned_by=job.pruned_by)
        for path, recipe in recipes.items()
    }
    cohort = Cohort(cells, messages.end)
    cohort.train(
        batches.read,
        job.checkpoint_seconds,
        lambda: messages.beat(cohort.waiting, shared.batch),
        batches.centred,
    )


def main() -> None:
    """Work off the jobs on standard input."""
    _die_with_parent()
    messages = Messages()
    when_full.set(messages.full)
    _get_ready()
    for line in sys.stdin:
        run_job(Job(**json.loads(line)), messages)
        if messages.stop:
            break


def _get_ready() -> None:
    """What the first cell would wait for, while the controller still opens its databases."""
    native.library()
    torch.optim.SGD(
        [torch.nn.Parameter(torch.zeros(1))]
    )  # the first optimizer imports torch's compiler: two seconds


def _die_with_parent() -> None:
    """Have the kernel kill this process with the one that started it, whatever it is busy with then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    atexit.register(gc.freeze)  # all is written; to take torch apart object by object would take a second
    main()
