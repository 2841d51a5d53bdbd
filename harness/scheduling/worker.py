"""A worker: trains one cell after another, as told line by line on its standard input.

Run as `python -m harness.scheduling.worker`. Each line is a Job in JSON; the worker answers with JSON lines:
`{"tokens": n}` while it trains and `{"end": "done" | "failed" | "stopped" | "busy"}` at the end of a cell.
It ends when its input ends, when nobody reads its answers any more, or on SIGTERM, which first checkpoints.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.activations.store import ActivationStore
from harness.ground_truth import recovery
from harness.scheduling.cell_folder import CellFolder, exclusive
from harness.scheduling.job import Job
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.metrics import EVALUATION_BATCH, HeldOut
from harness.training.stream import batch_rows
from harness.training.trainer import Diverged, Sinks, train

BEAT_SECONDS = 0.2


class Stopped(Exception):
    """SIGTERM came: the cell is checkpointed and handed back."""


Beat = Callable[[int], None]


def run_cell(job: Job, beat: Beat) -> str:
    """Train one cell from its last checkpoint to its result; how it ended, as in the module's docstring.

    beat: called with the tokens done after every step; raises Stopped to end early.
    """
    folder = CellFolder(Path(job.folder))
    with exclusive(folder.path / "lock") as mine:
        if not mine:
            return "busy"
        if folder.result() is not None:
            return "done"
        try:
            folder.publish(_train(job, folder, beat))
        except Stopped:
            return "stopped"
        except Exception as failure:  # ours, not the user's: kept whole in the log, one line goes up
            folder.log.write_text(traceback.format_exc(), encoding="utf-8")
            folder.fail(f"{type(failure).__name__}: {failure}".splitlines()[0])
            return "failed"
    return "done"


def _train(job: Job, folder: CellFolder, beat: Beat) -> dict[str, Any]:
    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    store = ActivationStore.open(Path(job.activations))
    mean = torch.tensor(store.manifest["mean"]) / store.manifest["scale"]
    cell = Cell(Recipe(**job.recipe), store.width, device, mean)
    held_out = HeldOut(_rows(store, "held_out", 0, store.tokens("held_out"), device), store.manifest["scale"])
    saved = folder.checkpoints.load()
    if saved is not None:
        cell.load_state(saved)
    recipe = cell.recipe

    def batches(step: int) -> Tensor:
        return _rows(store, "train", *batch_rows(step, recipe.batch, store.tokens("train"), recipe.seed), device)

    started = time.monotonic()
    with folder.open_curve(cell.step_index) as curve:
        sinks = Sinks(point=lambda point: curve.write(json.dumps(point) + "\n"), beat=beat)
        outcome: dict[str, Any] = {"state": "complete", "reason": None, "heldout": None}
        try:
            quality = train(cell, batches, held_out, folder.checkpoints, job.checkpoint_seconds, sinks)
            outcome |= {"heldout": quality.as_dict(), "layers": quality.layers_as_dicts()}
            if (features := store.features()) is not None:
                outcome["heldout"] |= recovery(
                    _codes(cell, held_out), torch.from_numpy(features).to(device)
                ).as_dict()
        except Stopped:
            folder.checkpoints.save(cell.step_index, cell.state())
            raise
        except Diverged as reason:
            outcome |= {"state": "diverged", "reason": str(reason)}
    parameters = sum(p.numel() for p in cell.sae.parameters())
    seconds = round(time.monotonic() - started, 3)
    environment = {"torch": torch.__version__, "device": device_name(device), "threads": job.threads}
    return {**outcome, "tokens": cell.tokens, "parameters": parameters, "seconds": seconds, **environment}


@torch.no_grad()
def _codes(cell: Cell, held_out: HeldOut) -> Tensor:
    """Codes [T, N] of all held-out tokens, with their zeros."""
    with cell.evaluating():
        batches = torch.split(held_out.x, EVALUATION_BATCH)
        return torch.cat([torch.cat([p.code.dense() for p in cell.code(x).parts], 1) for x in batches])


def _rows(store: ActivationStore, split: Any, start: int, stop: int, device: torch.device) -> Tensor:
    return torch.from_numpy(store.read(split, start, stop)).to(device)


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


class _Messages:
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

    def beat(self, tokens: int) -> None:
        if self.stop:
            raise Stopped
        if time.monotonic() - self._last >= BEAT_SECONDS:
            self._last = time.monotonic()
            self.send(tokens=tokens)


def main() -> None:
    """Work off the jobs on standard input."""
    messages = _Messages()
    for line in sys.stdin:
        messages.send(end=run_cell(Job(**json.loads(line)), messages.beat))
        if messages.stop:
            break


if __name__ == "__main__":
    main()
