"""One cell, from its folder to its result there, as a member of a cohort."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.evaluation.measurements import Measurement
from harness.files import append
from harness.locks import exclusive
from harness.sae import gpu, native
from harness.study.curve import POINTS, Point
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.cohort import Stopped
from harness.training.data import Data
from harness.training.sae_files import CONFIG, SAEConfig
from harness.training.trained_sae import TrainedSAE
from harness.training.trainer import Diverged, NextBatch, Samples, Stopwatch, resume, save, score, train
from harness.workers.cell_folder import CellFolder
from harness.workers.failures import End, failed
from harness.workers.measure_cell import LanguageModel, measure, no_language_model


def run_cell(
    path: Path,
    recipe: Recipe,
    data: Callable[[], Data],
    *,
    micro_batches: int = 1,
    pruned_by: str | None = None,
    points: int = POINTS,
    measurements: Sequence[Measurement] = (),
    language_model: LanguageModel = no_language_model,
) -> Generator[int, NextBatch, End]:
    """Train a cell from its last checkpoint to its result, and measure it: yields and takes what `train` does.

    language_model: opens the one that SAEs are put into, where a measurement needs it.
    Whatever happens to it ends this cell only, and is recorded. Returns "stopped" if Stopped is raised in it,
    after a checkpoint; "busy" if another process trains it; "out_of_memory" if memory ran out.
    One that its study prunes checkpoints, too, and is "done".
    """
    folder = CellFolder(path, pruned_by)
    with exclusive(folder.path / "lock") as mine:
        if not mine:
            return "busy"
        if folder.result() is not None:
            return "done"
        try:
            trained = _train(folder, recipe, data(), micro_batches, points, measurements, language_model)
            folder.publish((yield from trained))
        except Stopped:
            return "stopped" if folder.result() is None else "done"
        except Exception as failure:
            return failed(folder, failure)
    return "done"


def _train(
    folder: CellFolder,
    recipe: Recipe,
    data: Data,
    micro_batches: int,
    points: int,
    measurements: Sequence[Measurement],
    language_model: LanguageModel,
) -> Generator[int, NextBatch, dict[str, Any]]:
    clock = Stopwatch()
    cell = Cell(
        recipe, data.width, data.device, data.centring, micro_batches, data.target_width, data.target_centring
    )
    config = _config(folder, recipe, data)
    folder.checkpoints.about = {CONFIG: config.to_tensor()}
    there = {point["step"] for point in folder.points()}
    points = resume(cell, folder.checkpoints, clock, there, points)
    with folder.open_curve(cell.step_index) as curve:
        outcome: dict[str, Any] = {"state": "complete", "reason": None}

        def point(figures: Point) -> None:
            append(curve, json.dumps(figures, allow_nan=False) + "\n")
            if folder.result() is not None:  # the study has pruned it
                raise Stopped

        try:
            samples = Samples(data.held_out, data.training)
            yield from train(cell, samples, folder.checkpoints, point, clock, points)
            sae, held_out = TrainedSAE.of(cell, config), data.held_out.in_batches(cell.evaluation_batch)
            outcome["score"] = score(sae, held_out, cell.tokens)
            if cell.calibration is not None:
                outcome["calibration"] = cell.calibration
            measure(folder, recipe, sae, held_out, measurements, language_model)
            sae.save(folder.sae)
        except Stopped:
            save(cell, folder.checkpoints, clock, points)
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
    hook, target_hook = data.hooks
    return SAEConfig(
        recipe,
        data.centring,
        data.target_centring,
        source=source,
        data=data.fingerprint,
        code=code,
        transcoder=data.target_width is not None,
        hook=hook,
        target_hook=target_hook,
    )


def _has_kernels(device: torch.device) -> bool:
    """Whether ours are there for this device."""
    return (gpu.kernels() if device.type == "cuda" else native.library()) is not None


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
