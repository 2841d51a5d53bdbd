"""Activations that a language model makes beside the cells: what they cost, and what memory they take.

The model, its text and the cell are small: what is asked is whether a part of the whole grows that should not.
Run as `python -m benchmarks.streaming STORE TOKENS`, it trains one cell as a worker does and says what that took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.contender import forget, memory
from benchmarks.table import table
from benchmarks.turns import ROOT, Effort
from harness.activations.store import ActivationStore
from harness.engines.pool import ALLOCATOR
from harness.sources.kinds import load_source
from harness.sources.prepare import prepare_missing
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.cohort import Cohort
from harness.training.data import Batches, Data
from harness.workers.worker import open_stream

WORDS = 4096
DOCUMENT = 400  # words


@dataclass(frozen=True)
class Scale:
    """Of the language model and of the stream."""

    width: int
    layers: int
    window: int
    tokens: tuple[int, ...]  # of training, each in a process of its own


FULL = Scale(width=64, layers=2, window=262_144, tokens=(1_000_000, 5_000_000, 20_000_000))
QUICK = Scale(width=16, layers=1, window=2_048, tokens=(8_192, 16_384))


def section(scale: Scale, effort: Effort) -> str:
    """A row for each length of training."""
    with stream(scale) as store:
        rows = [_row(_trained(store, tokens, effort.threads)) for tokens in scale.tokens]
    heads = ["tokens", "peak, MiB", "model alone, s", "steps alone, s", "both, s", "of the sum", "in CPU seconds"]
    return table(heads, rows)


def _row(took: dict[str, Any]) -> list[str | int | float | None]:
    alone, both = (took["model"], took["steps"]), took["both"]
    ratios = [both[clock] / sum(one[clock] for one in alone) for clock in (0, 1)]
    return [took["tokens"], round(took["bytes"] / 2**20), *(one[0] for one in alone), both[0], *ratios]


@contextmanager
def stream(scale: Scale) -> Iterator[Path]:
    """A streamed store of as many tokens as are trained on at most."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _save_model(scale, root / "model")
        _save_text(root / "text.txt", tokens=max(scale.tokens) + 4 * DOCUMENT)
        source = {
            "kind": "pretrained",
            "model": {"name": str(root / "model")},
            "text": {
                "files": str(root / "text.txt"),
                "sample_by": "line",
                "held_out": {"files": str(root / "held_out.txt")},
            },
            "activations": {
                "hook": f"transformer.h.{scale.layers - 1}",
                "context": 64,
                "tokens": max(scale.tokens),
                "held_out_tokens": 1024,
                "window": scale.window,
                "feed": "stream",
            },
        }
        _save_text(root / "held_out.txt", tokens=4 * 1024)
        path = root / "bench.yaml"
        path.write_text(yaml.safe_dump(source), encoding="utf-8")
        prepare_missing(load_source(path), root / "data", root / "results", lambda _: None)
        yield root / "data" / "bench" / "activations"


def _save_model(scale: Scale, folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    sizes = {"n_embd": scale.width, "n_layer": scale.layers, "n_head": 2, "n_positions": 64}
    config = GPT2Config(vocab_size=WORDS + 1, bos_token_id=WORDS, eos_token_id=WORDS, **sizes)
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    vocabulary = {**{str(number): number for number in range(WORDS)}, "<end>": WORDS}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)


def _save_text(file: Path, tokens: int) -> None:
    """Lines of random words, each a document."""
    generator = np.random.default_rng(tokens)
    with file.open("w", encoding="utf-8") as opened:
        for _ in range(-(-tokens // DOCUMENT)):
            opened.write(" ".join(map(str, generator.integers(WORDS, size=DOCUMENT))) + "\n")


def _trained(store: Path, tokens: int, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.streaming", str(store), str(tokens)]
    environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def train(store: Path, tokens: int) -> dict[str, Any]:
    """Seconds on the clock and of the CPU: of the model alone, of steps alone, of both; and bytes at the peak."""
    cpu = torch.device("cpu")
    window = ActivationStore.open(store).window
    recipe = Recipe(latents=512, k=16, batch=min(4096, window), tokens=tokens, dead_window=512)
    make = open_stream(store, cpu)
    few = max(
        1, min(3, tokens // window - 1)
    )  # windows, and steps as many as they have: the rest is their multiple
    with ThreadPoolExecutor(1) as thread:  # as beside a cell
        thread.submit(make, 0).result()
        model = _timed(lambda: [thread.submit(make, number).result() for number in range(1, few + 1)])
    data = Data(store, cpu, lambda *_: make)
    batches = Batches(lambda: data, recipe)
    cell = Cell(recipe, data.width, cpu)
    some = max(1, few * window // recipe.batch)
    _step(cell, batches, 2)
    steps = _timed(lambda: _step(cell, batches, some))
    forget()
    before = memory("VmRSS")
    both = _timed(lambda: _stream(Cell(recipe, data.width, cpu), batches))
    windows = -(-recipe.steps * recipe.batch // window) - 1  # the first one is on disk
    return {
        "tokens": tokens,
        "model": [seconds * windows / few for seconds in model],
        "steps": [seconds * recipe.steps / some for seconds in steps],
        "both": both,
        "bytes": memory("VmHWM") - before,
    }


def _step(cell: Cell, batches: Batches, steps: int) -> None:
    rows = batches.read(0)
    for _ in range(steps):
        cell.step(*batches.centred(rows))


def _stream(cell: Cell, batches: Batches) -> None:
    def member() -> Any:
        for step in range(batches.steps):
            turn = yield step
            cell.step(*turn.batch)

    Cohort({"cell": member()}).train(batches.read, 1e9, centred=batches.centred, steps=batches.steps)


def _timed(work: Any) -> tuple[float, float]:
    clock, process = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - process


if __name__ == "__main__":
    print(json.dumps(train(Path(sys.argv[1]), int(sys.argv[2]))))
