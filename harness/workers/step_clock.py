"""Times steps of recipes on this machine, for `harness plan --measure`: a worker that trains nothing for long.

Run as `python -m harness.workers.step_clock`, once for every worker that a sweep would have, all at the same
time, since they share caches and memory. It reads one JSON object (`Asked`) from its standard input and answers
with a JSON line for each recipe, `{"step": seconds, "waited": share}` or `{"failed": why}`, and one for the
language model if there is one, `{"model": FLOP/s}`. `waited`: the share of the time in which other processes had
the core; seconds are without it.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.sources.model_cost import model_sizes
from harness.study.flops import mean_active
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.graph import forget_shared_memory

UNTIMED = 5  # steps: allocations, compiled kernels, a graph on a GPU
FEWEST = 5  # timed steps
TOKENS_AT_ONCE = 8192  # of a language model's pass
BLOCKS = 2  # of a language model that are timed: the others are like these


class Asked(NamedTuple):
    """What is to be timed, and for how many seconds each."""

    recipes: list[dict[str, Any]]
    width: int
    target_width: int | None
    device: str
    threads: int
    seconds: float
    model: dict[str, Any] | None = None  # a language model's config.json
    context: int = 0  # tokens of its contexts
    dtype: str = "float32"  # of its weights


def main() -> None:
    """Answer what standard input asks."""
    asked = Asked(**json.loads(sys.stdin.read()))
    torch.set_num_threads(asked.threads)
    device = torch.device(asked.device)
    for recipe in asked.recipes:
        _say(partial(_step, Recipe(**recipe), asked, device))
        gc.collect()
        forget_shared_memory()  # of its graph, which the next recipe's steps cannot use
    if asked.model is not None:
        _say(partial(_model, asked.model, asked, device))


def _say(answer: Callable[[], dict[str, float]]) -> None:
    try:
        line: dict[str, Any] = answer()
    except Exception as failure:  # too large for this machine, say: the others can still be timed
        line = {"failed": f"{type(failure).__name__}: {failure}".splitlines()[0]}
    print(json.dumps(line), flush=True)


def _step(recipe: Recipe, asked: Asked, device: torch.device) -> dict[str, float]:
    """Of a step on random activations.

    With the mean of a falling k; no latents are resampled; with aux-k, every other latent is taken as dead.
    """
    recipe = replace(recipe, tokens=10**9, k=round(mean_active(recipe)), k_start=None, resample=None)
    cell = Cell(recipe, asked.width, device, target_width=asked.target_width)
    generator = torch.Generator().manual_seed(0)

    def random(width: int | None) -> Tensor | None:
        return None if width is None else torch.randn(recipe.batch, width, generator=generator).to(device)

    x, target = random(asked.width), random(asked.target_width)
    assert x is not None
    half = torch.arange(cell.sae.latents, device=device).remainder(2)

    def step() -> None:
        if recipe.aux_k:
            cell.last_fired -= recipe.dead_window * half
            cell.restarted -= recipe.dead_window
        cell.step(x, target)

    wall, own = _timed(step, asked.seconds, device)
    return {"step": own, "waited": max(0.0, 1 - own / wall)}


def _model(config: dict[str, Any], asked: Asked, device: torch.device) -> dict[str, float]:
    """Of a forward pass through the first blocks of a language model with random weights."""
    from transformers import AutoConfig, AutoModel

    from harness.activations.pretrained_model import fuse_gelu

    kind = config["model_type"]
    made = AutoConfig.for_model(kind, **{name: v for name, v in config.items() if name != "model_type"})
    made.num_hidden_layers = BLOCKS
    made.vocab_size = 256  # what embeddings take is not timed
    made.pad_token_id = None
    if hasattr(made, "layer_types") and made.layer_types:
        made.layer_types = made.layer_types[:BLOCKS]
    model = AutoModel.from_config(made).to(device=device, dtype=getattr(torch, asked.dtype)).eval()
    if device.type == "cuda":
        fuse_gelu(model)  # as where it makes activations
    contexts = max(1, TOKENS_AT_ONCE // asked.context)
    ids = torch.randint(0, made.vocab_size, (contexts, asked.context), device=device)

    @torch.inference_mode()
    def run() -> None:
        model(input_ids=ids, use_cache=False)

    flops = BLOCKS * model_sizes(config).block_flops(asked.context) * ids.numel()
    return {"model": flops / _timed(run, asked.seconds, device)[1]}


def _timed(run: Callable[[], object], seconds: float, device: torch.device) -> tuple[float, float]:
    """Median seconds of `run`, and of them those in which this process had its core.

    The second is the same as the first on a GPU, and with several threads, of which some only wait.
    """
    for _ in range(UNTIMED):
        run()
    _wait(device)
    times: list[tuple[float, float]] = []
    started = time.perf_counter()
    while len(times) < FEWEST or time.perf_counter() - started < seconds:
        before = time.perf_counter(), time.process_time()
        run()
        _wait(device)
        times.append((time.perf_counter() - before[0], time.process_time() - before[1]))
    wall, own = (sorted(each)[len(times) // 2] for each in zip(*times, strict=True))
    return (wall, own) if device.type == "cpu" and torch.get_num_threads() == 1 else (wall, wall)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
