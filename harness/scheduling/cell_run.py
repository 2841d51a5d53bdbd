"""One cell, from its folder to its result there, as a member of a cohort."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Generator
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch

from harness.files import append, write_atomically
from harness.ground_truth import Codes, recovery
from harness.locks import exclusive
from harness.sae import gpu, native
from harness.scheduling.cell_folder import CellFolder
from harness.study.recipe import Recipe
from harness.training.backward import Indivisible
from harness.training.cell import Cell
from harness.training.cohort import Stopped
from harness.training.data import Data
from harness.training.metrics import HeldOut
from harness.training.sae_files import CONFIG, SAEConfig
from harness.training.trained_sae import TrainedSAE
from harness.training.trainer import Diverged, Samples, Stopwatch, Turn, check, logging_steps, resume, save, train

End = Literal["done", "failed", "stopped", "busy", "crowded"]


def run_cell(
    path: Path, recipe: Recipe, data: Callable[[], Data], *, micro_batches: int = 1, pruned_by: str | None = None
) -> Generator[int, Turn, End]:
    """Train a cell from its last checkpoint to its result: yields and takes what `train` does.

    Whatever happens to it ends this cell only, and is recorded. Returns "stopped" if Stopped is raised in it,
    after a checkpoint; "busy" if another process trains it; "crowded" if memory ran out.
    One that its study prunes checkpoints, too, and is "done".
    """
    folder = CellFolder(path, pruned_by)
    with exclusive(folder.path / "lock") as mine:
        if not mine:
            return "busy"
        if folder.result() is not None:
            return "done"
        try:
            folder.publish((yield from _train(folder, recipe, data(), micro_batches)))
        except Stopped:
            return "stopped" if folder.result() is None else "done"
        except torch.AcceleratorError:  # a GPU does nothing more for this process, whichever cell it came from
            write_atomically(folder.log, traceback.format_exc().encode())
            raise
        except Exception as failure:  # ours, not the user's: kept whole in the log, one line goes up
            write_atomically(folder.log, traceback.format_exc().encode())
            if is_out_of_memory(failure):
                return "crowded"
            folder.fail(reason_of(failure))
            return "failed"
    return "done"


def _train(
    folder: CellFolder, recipe: Recipe, data: Data, micro_batches: int
) -> Generator[int, Turn, dict[str, Any]]:
    clock = Stopwatch()
    cell = Cell(recipe, data.width, data.device, data.mean, micro_batches)
    missing = logging_steps(recipe.steps) - {point["step"] for point in folder.points()}
    config = _config(folder, recipe, data)
    folder.checkpoints.about = {CONFIG: config.to_tensor()}
    resume(cell, folder.checkpoints, clock, before=min(missing, default=math.inf))  # later ones would leave a gap
    with folder.open_curve(cell.step_index) as curve:
        outcome: dict[str, Any] = {"state": "complete", "reason": None, "heldout": None}

        def point(figures: dict[str, float | int]) -> None:
            append(curve, json.dumps(figures, allow_nan=False) + "\n")
            if folder.result() is not None:  # the study has pruned it
                raise Stopped

        try:
            samples = Samples(data.held_out, data.training)
            quality = yield from train(cell, samples, folder.checkpoints, point, clock)
            figures = quality.as_dict()
            if (features := data.features()) is not None:
                found = recovery(codes_of(cell, data.held_out), cell.sae.latents, features).as_dict()
                check("held-out", found, cell.tokens)
                figures |= found
            outcome |= {"heldout": figures, "layers": quality.layers_as_dicts()}
            if cell.calibration is not None:
                outcome["calibration"] = cell.calibration
            TrainedSAE.of(cell, config).save(folder.sae)
        except Stopped:
            save(cell, folder.checkpoints, clock)
            raise
        except Diverged as reason:
            outcome |= {"state": "diverged", "reason": str(reason)}
    parameters = sum(p.numel() for p in cell.sae.parameters())
    environment = {
        "torch": torch.__version__,
        "device": device_name(data.device),
        "threads": torch.get_num_threads(),
        "kernels": "compiled" if _has_kernels(data.device) else "plain",
        "micro_batches": micro_batches,
    }
    seconds = round(clock.seconds, 3)
    return {**outcome, "tokens": cell.tokens, "parameters": parameters, "seconds": seconds, **environment}


def _config(folder: CellFolder, recipe: Recipe, data: Data) -> SAEConfig:
    """What its SAE is of; the controller has said by which name and code."""
    said = folder.description()
    source, code = said.get("source"), said.get("code")
    return SAEConfig(recipe, data.centring, data.centring, source=source, data=data.fingerprint, code=code)


def _has_kernels(device: torch.device) -> bool:
    """Whether ours are there for this device."""
    return (gpu.kernels() if device.type == "cuda" else native.library()) is not None


@torch.no_grad()
def codes_of(cell: Cell, held_out: HeldOut) -> list[Codes]:
    """The codes of all held-out tokens, a block for each batch."""
    blocks = []
    with cell.evaluating():
        for start in range(0, len(held_out.x), cell.evaluation_batch):
            x = held_out.x[start : start + cell.evaluation_batch]
            codes = [part.code for part in cell.code(x).parts]
            first = accumulate((code.support.latents for code in codes), initial=0)  # latents of the coders before
            active = [code.values > 0 for code in codes]
            latents = [c.support.indices[on] + n for c, on, n in zip(codes, active, first, strict=False)]
            tokens = [code.support.tokens[on] for code, on in zip(codes, active, strict=True)]
            values = [code.values[on] for code, on in zip(codes, active, strict=True)]
            stop = start + len(x)
            blocks.append(Codes(start, stop, torch.cat(tokens).int(), torch.cat(latents).int(), torch.cat(values)))
    return blocks


def is_out_of_memory(failure: Exception) -> bool:
    """On a GPU torch has an error of its own for it, on a CPU only a text."""
    if isinstance(failure, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(failure, RuntimeError) and "can't allocate memory" in str(failure)


def reason_of(failure: Exception) -> str:
    """One line for people."""
    if isinstance(failure, Indivisible):
        return f"out of memory: {failure}"
    return f"{type(failure).__name__}: {failure}".splitlines()[0]


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
