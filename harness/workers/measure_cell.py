"""Measuring a cell: right after its training, or again later, from the SAE that was kept."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from harness.evaluation.language_model import LanguageModelRun
from harness.evaluation.measurements import Measurement
from harness.files import write_atomically
from harness.locks import exclusive
from harness.study.recipe import Recipe
from harness.training.data import Data
from harness.training.metrics import EVALUATION_BATCH, HeldOut
from harness.training.trained_sae import TrainedSAE, load_sae
from harness.workers.cell_folder import CellFolder
from harness.workers.failures import End, failed, is_out_of_memory, reason_of

LanguageModel = Callable[[], LanguageModelRun]


def no_language_model() -> LanguageModelRun:
    """Of a store without text, where nobody asks."""
    raise ValueError("expected activations of a language model")


def measure_cell(
    path: Path,
    recipe: Recipe,
    data: Callable[[], Data],
    measurements: Sequence[Measurement],
    *,
    language_model: LanguageModel = no_language_model,
    micro_batches: int = 1,
) -> End:
    """Measure what a trained cell lacks, from the SAE that was kept; nothing where none was.

    language_model: opens the one that SAEs are put into, where a measurement needs it.
    Whatever happens ends this cell only, and is recorded. Returns "busy" if another process has the cell,
    "out_of_memory" if memory ran out; micro_batches: parts in which a batch is coded, to need less of it.
    """
    folder = CellFolder(path)
    with exclusive(folder.path / "lock") as mine:
        if not mine:
            return "busy"
        try:
            if folder.to_measure(measurements, recipe):
                opened = data()
                held_out = opened.held_out.in_batches(EVALUATION_BATCH // micro_batches)
                sae = load_sae(folder.sae, opened.device)
                measure(folder, recipe, sae, held_out, folder.stale(measurements, recipe), language_model)
        except Exception as failure:
            return failed(folder, failure)
    return "done"


def measure(
    folder: CellFolder,
    recipe: Recipe,
    sae: TrainedSAE,
    held_out: HeldOut,
    measurements: Sequence[Measurement],
    language_model: LanguageModel = no_language_model,
) -> None:
    """Write each measurement as soon as it is made. One that fails is recorded as such, and is tried again.

    Raises what means that memory ran out, or that a GPU does nothing more for this process.
    """
    for measurement in measurements:
        try:
            on = language_model() if measurement.on == "text" else held_out
            folder.record_measured(measurement, recipe, measurement.load()(sae, on))
        except Exception as failure:
            if isinstance(failure, torch.AcceleratorError) or is_out_of_memory(failure):
                raise
            write_atomically(folder.log, traceback.format_exc().encode())
            folder.record_not_measured(measurement, recipe, reason_of(failure))
