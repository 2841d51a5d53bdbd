"""The memory that every kind of recipe takes on a GPU, beside what `harness plan` says of it.

Each cell is built, stepped until it has a graph and a little beyond, measured, checkpointed and copied to be
measured in the end, as a worker does it. `step`: tensors at the peak of a step. `reserved`: what torch's allocator
took of the GPU for all of it, which is what its neighbours cannot have.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from benchmarks.shape import LR, Shape, activations
from benchmarks.table import Value, table, why
from harness.study.catalogue import OPTIMIZERS, PENALTIES, SPARSIFIERS
from harness.study.memory import Memory
from harness.study.plan import cost
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.graph import forget_shared_memory
from harness.training.metrics import HeldOut, code_all
from harness.training.trainer import Samples, curve_point

LARGE, SMALL = Shape(768, 24_576, 32, 8192), Shape(256, 4096, 32, 4096)
LONG = 10**9  # tokens: schedules are in their flat part
STEPS = 6  # with a graph from the fourth on; the last one resamples where a recipe does
HELD_OUT, TOKENS = 3 * 2048, 32_768  # measured on, and all of them, on which thresholds are set
MIB = 2**20
PACKAGES = {
    "soap": "pytorch_optimizer",
    "lion": "pytorch_optimizer",
    "signum": "pytorch_optimizer",
    "schedule_free_adam": "schedulefree",
}


class Kind(NamedTuple):
    """Fields of a recipe, and how its cell is made."""

    changes: dict[str, Any]
    target_width: int | None = None
    micro_batches: int = 1


class Peaks(NamedTuple):
    """Bytes: of tensors in a step, and reserved in all."""

    step: int
    reserved: int


# What takes memory in ways of its own, on which the large size is spent
FEW: dict[str, Kind] = {
    "top-k, float32": Kind({}),
    "top-k, bfloat16": Kind({"precision": "bfloat16"}),
    "batch top-k": Kind({"sparsifier": "batchtopk", "precision": "bfloat16"}),
    "JumpReLU": Kind({"sparsifier": "jumprelu", "sparsity": 0.3, "precision": "bfloat16"}),
    "ReLU": Kind({"sparsifier": "relu", "sparsity": 1e-3, "precision": "bfloat16"}),
    "spread penalty": Kind({"penalty": 1e-4, "precision": "bfloat16"}),
    "aux-k": Kind({"aux_k": 384, "dead_window": 1, "precision": "bfloat16"}),
    "dense 2-2, Muon": Kind({"layers": "dense 2-2", "optimizer": "muon", "precision": "bfloat16"}),
    "resampling": Kind({"resample": STEPS * LARGE.batch, "precision": "bfloat16"}),
}


def kinds(shape: Shape) -> dict[str, Kind]:
    """Every kind of recipe."""
    precisions: dict[str, Kind] = {
        f"{sparsifier}, {precision}": Kind({"sparsifier": sparsifier, "sparsity": 0.1, "precision": precision})
        for precision in ("float32", "tf32", "bfloat16")
        for sparsifier in SPARSIFIERS
    }
    optimizers = {name: Kind({"optimizer": name}) for name in OPTIMIZERS if name != "adam" and _there(name)}
    layers = ("sparse 3", "sparse 3 each", "dense 2-2", "dense 2-4-4-2", "dense_encoder 2")
    penalties = {f"spread: {name}": Kind({"penalty": 1e-4, "penalty_on": name}) for name in PENALTIES}
    return {
        **precisions,
        **optimizers,
        **penalties,
        **{name: Kind({"layers": name}) for name in layers},
        **{f"{name}, bfloat16": Kind({"layers": name, "precision": "bfloat16"}) for name in layers},
        **{f"norm: {name}": Kind({"decoder_norm": name}) for name in ("free", "unit_per_dimension")},
        "matryoshka": Kind({"prefixes": "0.125-0.5"}),
        "aux-k": Kind({"aux_k": 128, "dead_window": 1}),
        "resampling": Kind({"resample": STEPS * shape.batch, "dead_window": 1}),
        "k decay": Kind({"k_start": 2 * shape.k}),
        "unit norm of tokens": Kind({"inputs": "unit_norm"}),
        "transcoder": Kind({}, target_width=shape.width),
        "transcoder, dense 2-2": Kind({"layers": "dense 2-2"}, target_width=shape.width // 2),
        "4 micro-batches": Kind({}, micro_batches=4),
    }


def _there(optimizer: str) -> bool:
    package = PACKAGES.get(optimizer)
    return package is None or find_spec(package) is not None


def recipe_of(shape: Shape, changes: dict[str, Any]) -> Recipe:
    """With the sizes of a shape and a level learning rate."""
    given = {"latents": shape.latents, "k": shape.k, "batch": shape.batch, "tokens": LONG, "lr": LR, "warmup": 0.0}
    return Recipe(**{**given, **changes})


def predicted(shape: Shape, changes: dict[str, Any], target_width: int | None = None) -> Memory:
    """What `harness plan` says."""
    return cost(recipe_of(shape, changes), shape.width, target_width=target_width, on_gpu=True).memory


def section(device: torch.device, *, quick: bool) -> str:
    """The table; `quick`: of tiny cells, without figures where there is no GPU."""
    rows: list[list[Value]] = []
    if quick:
        tiny = Shape(16, 64, 4, 64)
        every = kinds(tiny)
        cases = [(tiny, {name: every[name] for name in ("aux-k", "resampling", "transcoder", "4 micro-batches")})]
    else:
        cases = [(LARGE, FEW), (SMALL, kinds(SMALL))]
    for shape, found in cases:
        data = activations(shape.width, max(TOKENS, shape.batch)).to(device)
        measured(shape, Kind({}), data)  # cuBLAS takes its workspaces
        for name, kind in found.items():
            print(f"{shape}: {name} ...", file=sys.stderr, flush=True)
            rows.append([str(shape), name, *_figures(shape, kind, data)])
    heads = ["d, latents, k, batch", "", "step, MiB", "plan's", "plan / step", "reserved in all, MiB", "plan's"]
    return table([*heads, "plan / reserved"], rows)


def _figures(shape: Shape, kind: Kind, data: torch.Tensor) -> Iterator[Value]:
    try:
        peaks = measured(shape, kind, data)
    except Exception as failure:  # the others are worth having all the same
        return iter([why(failure), *[None] * 5])
    if kind.micro_batches > 1:
        return iter([_mib(peaks.step), None, None, _mib(peaks.reserved), None, None])
    plan = predicted(shape, kind.changes, kind.target_width)
    pairs = ((peaks.step, plan.step), (peaks.reserved, plan.alone))
    return iter([figure for took, said in pairs for figure in _compared(took, said)])


def _compared(took: int, said: int) -> list[Value]:
    return [_mib(took), _mib(said), f"{said / took:.2f}" if took else None]


def _mib(size: int) -> int | None:
    return round(size / MIB) or None


def measured(shape: Shape, kind: Kind, data: torch.Tensor) -> Peaks:
    """Of one cell, from its beginning to the copy that is measured; zeros on a CPU."""
    device, gpu = data.device, data.is_cuda
    gc.collect()  # cells and optimizers of before hang together in circles
    forget_shared_memory()
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) if gpu else (0, 0)
    cell = Cell(
        recipe_of(shape, kind.changes),
        shape.width,
        device,
        micro_batches=kind.micro_batches,
        target_width=kind.target_width,
    )
    for _ in range(STEPS):
        x = data[: shape.batch].clone()
        cell.step(x, None if kind.target_width is None else x[:, : kind.target_width].contiguous())
    step = torch.cuda.max_memory_allocated() - before[0] if gpu else 0
    x = data[:HELD_OUT]
    target = None if kind.target_width is None else x[:, : kind.target_width].contiguous()
    held_out = HeldOut(x, 1.0, target, batch=cell.evaluation_batch)
    curve_point(cell, Samples(held_out, lambda tokens: data[:tokens].clone()))
    saved = {name: tensor.cpu() for name, tensor in cell.state().items()}
    sae, _ = cell.trained_sae()
    code_all(lambda rows, wanted: sae(rows, wanted), held_out)
    del saved
    return Peaks(step, torch.cuda.max_memory_reserved() - before[1] if gpu else 0)


if __name__ == "__main__":
    on_gpu = torch.cuda.is_available()
    print(section(torch.device("cuda" if on_gpu else "cpu"), quick=not on_gpu))
