"""Twelve cells on what GPT-2 makes of a text beside them: tokens per second of each part alone, and together.

The text is English where a parquet file and a tokenizer are given, else random words. The time of a pass does not
depend on the weights, which are random.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpt2_stream import DTYPE, FULL, Scale, Text, streamed
from benchmarks.shape import LR
from benchmarks.table import Value, table
from harness.activations.contexts import WindowOfContexts
from harness.activations.store import ActivationStore
from harness.activations.windows import WindowMaker
from harness.estimates.machine import model_speed, stream_rate
from harness.sources.model_cost import ModelCost
from harness.study.recipe import Recipe
from harness.study.step_time import DEVICES, known_device
from harness.training.cell import Cell
from harness.training.cohort import Cohort, Stopped
from harness.training.data import FIRST, Batches, Data
from harness.training.trainer import NextBatch
from harness.workers.worker import open_stream

CELLS = 12
WANTED = 300_000  # tokens per second
PRECISION: Literal["bfloat16"] = "bfloat16"  # of steps
TOKENIZED = 24  # windows, at most
WARM = 12  # steps of the cells that nobody looks at
LONG = 10**9  # tokens: schedules are in their flat part


def section(scale: Scale, device: torch.device, seconds: float, text: Text | None = None) -> str:
    """The table: each part alone, all of it at once for so many seconds, and what `harness plan` says of that."""
    with streamed(scale, seconds, text) as (store, cost):
        cells = [_cell(scale, device, number) for number in range(CELLS)]
        tokenizer, model, steps, same = _alone(store, cells, scale, device)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rate = _together(cells, Data(store, device, open_stream), seconds, device)
        peak = round(torch.cuda.max_memory_allocated() / 2**20) if device.type == "cuda" else None
    planned = _planned(scale, cost, device)
    rows: list[list[Value]] = [
        [f"text to tokens alone, {'random words' if text is None else 'English'}", round(tokenizer)],
        [f"model alone, {cost.blocks} of {cost.of_blocks} blocks, {DTYPE}", round(model)],
        [f"{CELLS} cells alone, {scale.shape}, {PRECISION}", round(steps)],
        [f"all together, {seconds:g} s", round(rate)],
        ["wanted", WANTED if scale is FULL else None],
        ["of what model and cells make in turns", f"{rate * (1 / model + 1 / steps):.0%}"],
        ["`harness plan` says", None if planned is None else round(planned)],
        ["memory at its peak, MiB", peak],
        ["first window as stored", "the same bits" if same else "DIFFERENT"],
    ]
    return table(["tokens per second", ""], rows)


def _alone(store: Path, cells: list[Cell], scale: Scale, device: torch.device) -> tuple[float, float, float, bool]:
    """Tokens per second of tokenizer, model and cells; and whether a window made now is the one on disk."""
    maker = WindowMaker.open(store, device)
    same = _same_bits(store, maker)
    contexts, tokenizer = _tokenizer(maker)
    window, model = _model(maker, contexts, scale, device)
    steps = _together(cells, Data(store, device, lambda *_: lambda _: window), scale.alone, device)
    return tokenizer, model, steps, same


def _planned(scale: Scale, cost: ModelCost, device: torch.device) -> float | None:
    """Tokens per second, as a plan has them; None for a GPU that it does not know."""
    name = known_device(torch.cuda.get_device_name()) if device.type == "cuda" else None
    if name is None:
        return None
    known = DEVICES[name]
    step = known.seconds(_recipe(scale), scale.shape.width)
    return stream_rate(
        CELLS * step, scale.shape.batch, cost.flops_per_token / model_speed(known, cost.bytes_per_number)
    )


def _recipe(scale: Scale, seed: int = 0) -> Recipe:
    shape = scale.shape
    return Recipe(
        latents=shape.latents,
        k=shape.k,
        batch=shape.batch,
        tokens=LONG,
        lr=LR * (1 + seed) / CELLS,
        warmup=0.0,
        precision=PRECISION,
    )


def _cell(scale: Scale, device: torch.device, number: int) -> Cell:
    return Cell(_recipe(scale, number), scale.shape.width, device)


def _same_bits(store: Path, maker: WindowMaker) -> bool:
    """Whether a window that is made now is the one on disk."""
    stored, made = ActivationStore.open(store).read_window(0), maker.window("train", 0)
    return all(np.array_equal(one.cpu().numpy(), other) for one, other in zip(made, stored, strict=True))


def _tokenizer(maker: WindowMaker) -> tuple[WindowOfContexts, float]:
    """The contexts of a window, and tokens per second that are read: many, since documents are read in blocks."""
    reader = maker.reader("train")
    contexts = reader.window(1)
    windows = range(2, min(len(reader), TOKENIZED))
    start = time.perf_counter()
    for number in windows:
        reader.window(number)
    return contexts, len(windows) * reader.window_tokens / (time.perf_counter() - start)


def _model(
    maker: WindowMaker, contexts: WindowOfContexts, scale: Scale, device: torch.device
) -> tuple[list[Tensor], float]:
    """What it makes of these contexts, and tokens per second, in a thread and on a stream as beside cells."""
    maker._readers["train"] = _Same(contexts)  # type: ignore[assignment]

    def make(windows: int) -> list[Tensor]:
        with torch.cuda.stream(torch.cuda.Stream(device, FIRST)) if device.type == "cuda" else nullcontext():  # type: ignore[no-untyped-call]
            return [maker.window("train", 1) for _ in range(windows)][-1]

    with ThreadPoolExecutor(1) as thread:
        window = thread.submit(make, 1).result()
        start = time.perf_counter()
        thread.submit(make, scale.alone).result()
        return window, scale.alone * scale.window / (time.perf_counter() - start)


@dataclass(frozen=True)
class _Same:
    """A reader of a text that has one window."""

    contexts: WindowOfContexts

    def window(self, _number: int) -> WindowOfContexts:
        return self.contexts


def _together(cells: list[Cell], data: Data, seconds: float, device: torch.device) -> float:
    """Tokens per second that these cells train on for so long, each token being seen by all of them.

    As a worker steps them, from wherever they are; without their curves and checkpoints.
    """

    def member(cell: Cell) -> Generator[int, NextBatch, None]:
        try:
            while True:
                turn = yield cell.step_index
                cell.step(*turn.batch)
        except Stopped:
            return

    for cell in cells:
        if cell._graph is not None:
            cell._graph.forget()  # its batches lay elsewhere
    cohort = Cohort({str(number): member(cell) for number, cell in enumerate(cells)})
    batches = Batches(lambda: data, cells[0].recipe)
    first, start = cells[0].step_index, 0.0
    begun = 0  # the step at which the clock was started

    def beat() -> None:
        nonlocal start, begun
        at = min(cohort.waiting.values())
        if not start and at - first >= WARM:
            _wait(device)
            start, begun = time.perf_counter(), at
        elif start and time.perf_counter() - start >= seconds:
            raise Stopped

    cohort.train(batches.read, 1e9, beat, batches.centred, batches.steps)
    _wait(device)
    took = time.perf_counter() - start
    return sum(cell.step_index - begun for cell in cells) / len(cells) * cells[0].recipe.batch / took


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
