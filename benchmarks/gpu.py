"""A step on a GPU, in each precision, against the encoder's product alone; and which operators its time goes to.

In one process, without the peers: what a GPU machine needs is torch and what a cell imports.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.shape import LR, QUICK, Batches, Shape, activations
from benchmarks.table import Value, table
from benchmarks.turns import Effort
from harness.progress import track
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.precision import float32_products

Step = Callable[[Tensor], Any]

SIZES = (Shape(768, 24_576, 32, 8192), Shape(768, 6144, 32, 4096))
PRECISIONS = ("float32", "tf32", "bfloat16")
PROFILED = "bfloat16"
LONG = 10**9  # tokens: schedules are in their flat part
FIRST = 3  # steps nobody looks at: optimizers make their state, the allocator gets its memory
OPERATORS = 10  # that are shown, of those with most time


def section(effort: Effort, *, quick: bool) -> str:
    """Both tables, or that there is no GPU; `quick` makes do with a CPU."""
    if not (torch.cuda.is_available() or quick):
        return "Left out: torch finds no GPU on this machine.\n"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = QUICK if quick else SIZES
    torch.manual_seed(0)
    heading = f"Of a step of {sizes[0]} in {PROFILED}, the operators with most time on the device:"
    return f"{by_precision(sizes, effort, device)}\n{heading}\n\n{by_operator(sizes[0], effort, device)}"


def by_precision(sizes: Sequence[Shape], effort: Effort, device: torch.device) -> str:
    """Milliseconds of the product and of the step, medians; MiB of the step at its peak, batches left out."""
    rows: list[list[Value]] = []
    for shape in sizes:
        batch = _batches(shape, device)
        peaks = [_peak(shape, precision, batch, device) for precision in PRECISIONS]
        steps = {f"product {name}": _product(shape, name, device) for name in PRECISIONS}
        steps |= {f"step {name}": _step(shape, name, device) for name in PRECISIONS}
        times = _in_turns(steps, batch, effort, device, f"a step of {shape}")
        products, whole = ([times[f"{what} {name}"] for name in PRECISIONS] for what in ("product", "step"))
        ratios = [ours / least for ours, least in zip(whole, products, strict=True)]
        rows += [
            [str(shape), "product alone, ms", *products],
            [str(shape), "step, ms", *whole],
            [str(shape), "step, of the product", *ratios],
            [str(shape), "memory at its peak, MiB", *peaks],
        ]
    return table(["d, latents, k, batch", "", *PRECISIONS], rows)


def by_operator(shape: Shape, effort: Effort, device: torch.device) -> str:
    """Where a step's time on the device goes: an operator's own, without that of the operators it calls."""
    batch, step = _batches(shape, device), _step(shape, PROFILED, device)
    _take(FIRST, step, batch)
    _wait(device)
    gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *gpu]) as profiled:
        _take(effort.steps, step, batch)
        _wait(device)
    own = "self_device_time_total" if gpu else "self_cpu_time_total"  # microseconds of all steps
    # A kernel has an event of its own, the GPU's, beside the operator's that launched it: once is enough.
    operators = [event for event in profiled.key_averages() if event.device_type.name == "CPU"]
    times = sorted(((getattr(event, own) / 1e3 / effort.steps, event.key) for event in operators), reverse=True)
    if not (total := sum(ms for ms, _ in times)):
        return "The profiler saw no work of the GPU: it is not let to its counters here.\n"
    rows: list[list[Value]] = [[name, ms, f"{ms / total:.0%}"] for ms, name in times[:OPERATORS]]
    return table(["operator", "ms a step", "of all"], [*rows, ["all", total, "100%"]])


def _batches(shape: Shape, device: torch.device) -> Batches:
    """Batches [B, D] that lie on the device, so that nobody is timed copying."""
    return Batches(activations(shape.width).to(device), shape.batch)


def _step(shape: Shape, precision: str, device: torch.device) -> Step:
    """A cell's step, as a worker takes it, on batches [B, D]."""
    recipe = Recipe(
        latents=shape.latents,
        k=shape.k,
        batch=shape.batch,
        tokens=LONG,
        lr=LR,
        warmup=0.0,
        precision=cast(Any, precision),
    )
    return Cell(recipe, shape.width, device).step


def _product(shape: Shape, precision: str, device: torch.device) -> Step:
    """The encoder's product alone: weight and output [B, N] are there in its precision, and so are inputs [B, D].

    A step has one float32 weight and batch, and in bfloat16 must convert both: this is what it cannot do without.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    weight = torch.randn(shape.latents, shape.width, device=device).to(dtype)
    given = torch.randn(shape.batch, shape.width, device=device).to(dtype)
    out = torch.empty(shape.batch, shape.latents, device=device, dtype=dtype)

    def step(_: Tensor) -> None:
        with float32_products(precision, device):
            torch.mm(given, weight.T, out=out)

    return step


def _peak(shape: Shape, precision: str, batch: Batches, device: torch.device) -> int | None:
    """MiB that a cell and its first steps take of the device at most, or None where nobody counts them."""
    if device.type != "cuda":
        return None
    gc.collect()  # cells and optimizers of before hang together in circles
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _take(FIRST, _step(shape, precision, device), batch)
    return round((torch.cuda.max_memory_allocated() - before) / 2**20)


def _in_turns(
    steps: Mapping[str, Step], batch: Batches, effort: Effort, device: torch.device, what: str
) -> dict[str, float]:
    """The median milliseconds of each: groups of steps in turns, so that the GPU's clock is the same to all."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        _take(FIRST, step, batch)
    for _ in track(range(effort.rounds), effort.rounds, what):
        for name, step in steps.items():
            times[name].append(_milliseconds(step, batch, effort.steps, device))
    return {name: statistics.median(each) for name, each in times.items()}


def _milliseconds(step: Step, batch: Batches, steps: int, device: torch.device) -> float:
    """Of one step, from the start of a group of them to the end of all their work; no waiting in between."""
    _wait(device)
    start = time.perf_counter()
    _take(steps, step, batch)
    _wait(device)
    return 1e3 * (time.perf_counter() - start) / steps


def _take(steps: int, step: Step, batch: Batches) -> None:
    for _ in range(steps):
        step(batch())


def _wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
