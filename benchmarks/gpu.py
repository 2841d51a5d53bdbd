"""A step on a GPU: whether it is right, whether it repeats its bits, whether it waits, what it takes and where.

In one process. What a GPU machine needs is torch, Triton and what a cell imports; sparsify takes part where it is
installed, and twelve cells are fed by a language model where `transformers` is. `make gpu` writes the page
`docs/gpu.md`, table after table; it takes some five minutes. The page of another GPU stays, which estimates and
tests may go by: then this one's is beside it, with the GPU's name.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import gpu_bits, gpu_cohorts, gpu_memory, gpu_peers, gpu_shortlist
from benchmarks.shape import LR, QUICK, Batches, Shape, activations
from benchmarks.table import Value, table, why
from benchmarks.turns import Effort
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.graph import forget_shared_memory
from harness.training.precision import float32_products

Step = Callable[[Tensor], Any]

SIZES = (
    Shape(256, 4096, 32, 4096),
    Shape(768, 24_576, 32, 8192),
    Shape(768, 24_576, 64, 32_768),
    Shape(4096, 131_072, 64, 4096),
)
MAIN = SIZES[1]
WANTED = (0.6, 2.0, 8.0, 22.0)  # ms of each, in bfloat16
PRECISIONS = ("float32", "tf32", "bfloat16")
PROFILED = "bfloat16"
VARIANTS: dict[str, tuple[dict[str, Any], float | None]] = {  # -> fields of the recipe, ms wanted
    "top-k": ({}, 2.0),
    "batch top-k": ({"sparsifier": "batchtopk"}, 3.0),
    "JumpReLU": ({"sparsifier": "jumprelu", "sparsity": 0.3}, 8.0),
    "ReLU, L1": ({"sparsifier": "relu", "sparsity": 1e-3}, None),
    "spread penalty (ReLU)": ({"penalty": 1e-4}, 3.0),
    "matryoshka": ({"prefixes": "0.125-0.5"}, 3.5),
    "dense 2-2": ({"layers": "dense 2-2"}, 4.0),
    "dense 2-4-4-2": ({"layers": "dense 2-4-4-2"}, 9.0),
    "three sparse layers": ({"layers": "sparse 3"}, 2.8),
    "three, all of it each": ({"layers": "sparse 3 each"}, 6.0),
    "aux-k, 384 of a quarter dead": ({"aux_k": 384, "dead_window": 10**8, "lr": 1e-6}, 2.8),
    "aux-k, 32 of a quarter dead": ({"aux_k": 32, "dead_window": 10**8, "lr": 1e-6}, 2.8),
    "aux-k, none dead": ({"aux_k": 384, "dead_window": 10**10, "lr": 1e-6}, None),
    "Muon": ({"optimizer": "muon"}, 3.8),
}
LONG = 10**9  # tokens: schedules are in their flat part
FIRST = 5  # steps nobody looks at: kernels are compiled, a graph is captured
NAMES = ("steps", "variants", "profile", "shortlist", "bits", "memory", "cohorts", "stream")  # of the tables
STREAMED = 20.0  # seconds
OPERATORS = 12  # that are shown, of those with most time
FULL = Effort(rounds=5, steps=10, threads=2)
SHORT = Effort(rounds=1, steps=1, threads=2)


def section(effort: Effort, *, quick: bool) -> str:
    """All tables, or that there is no GPU; `quick` makes do with a CPU."""
    if not (torch.cuda.is_available() or quick):
        return "Left out: torch finds no GPU on this machine.\n"
    return "".join(tables(effort, quick=quick))


def tables(
    effort: Effort,
    *,
    quick: bool,
    only: Sequence[str] | None = None,
    seconds: float = STREAMED,
    text: tuple[Path, Path] | None = None,
) -> Iterator[str]:
    """All tables, or those of some names, each as soon as it is made.

    A table that fails says so in its place. seconds: of the streamed pass. text: what is streamed, a parquet file
    and the folder of a tokenizer.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes, main = (QUICK, QUICK[0]) if quick else (SIZES, MAIN)
    torch.manual_seed(0)
    parts: dict[str, tuple[str, Callable[[], str]]] = {
        "steps": (
            f"A step of a top-k SAE, {', '.join(PRECISIONS)}",
            lambda: by_precision(sizes, effort, device),
        ),
        "variants": (
            f"Other SAEs and optimizers, {main}, {PROFILED}",
            lambda: by_variant(main, effort, device),
        ),
        "profile": (f"Kernels of a step of {main} in {PROFILED}", lambda: by_operator(main, effort, device)),
        "shortlist": (
            "The k largest in float32, found in float16",
            lambda: gpu_shortlist.shortlists(sizes[:3], device),
        ),
        "bits": ("The same bits", lambda: gpu_bits.bits(device, quick=quick)),
        "memory": ("Memory", lambda: gpu_memory.section(device, quick=quick)),
        "cohorts": ("A sweep's cohorts", lambda: gpu_cohorts.cohorts(device, quick=quick)),
        "stream": (
            "Twelve cells on one streamed pass of GPT-2",
            lambda: _stream(device, seconds, text, quick=quick),
        ),
    }
    for name, (title, make) in parts.items():
        if only is None or name in only:
            print(f"{title} ...", file=sys.stderr, flush=True)
            yield f"### {title}\n\n{_made(make)}\n"


def _stream(device: torch.device, seconds: float, text: tuple[Path, Path] | None, *, quick: bool) -> str:
    """The only table that needs language models."""
    try:
        from benchmarks import gpt2_stream, gpu_stream
    except ImportError as missing:
        return f"Not measured: no {missing.name}.\n"
    return gpu_stream.section(gpt2_stream.QUICK if quick else gpt2_stream.FULL, device, seconds, text)


def _made(make: Callable[[], str]) -> str:
    """The table, or why there is none: the others are worth having all the same."""
    try:
        return make()
    except Exception as failure:
        traceback.print_exc()
        return f"FAILED: {type(failure).__name__}: {failure}\n"


def by_precision(sizes: Sequence[Shape], effort: Effort, device: torch.device) -> str:
    """Milliseconds of the encoder's product, of sparsify and of the step, medians; MiB of the step at its peak."""
    rows: list[list[Value]] = []
    for shape, wanted in zip(sizes, WANTED, strict=False):
        batch = _batches(shape, device)
        names = ("product alone, ms", "step, ms", "memory at its peak, MiB", "as plan says, MiB")
        times: dict[str, list[Value]] = {name: [] for name in names}
        for precision in PRECISIONS:
            ms, peak = _tried(_cell(shape, precision, device), batch, effort, device)
            times["product alone, ms"].append(_tried(_product(shape, precision, device), batch, effort, device)[0])
            times["step, ms"].append(ms)
            times["memory at its peak, MiB"].append(peak)
            times["as plan says, MiB"].append(_planned(shape, precision))
        name = str(shape)
        rows += [[name, what, *each] for what, each in times.items()]
        if gpu_peers.has_sparsify():
            peer = partial(gpu_peers.sparsify, shape, device)
            rows.append([name, "sparsify, ms", None, None, _tried(peer, batch, effort, device)[0]])
        rows.append([name, "wanted, ms", None, None, wanted])
    return table(["d, latents, k, batch", "", *PRECISIONS], rows)


def by_variant(shape: Shape, effort: Effort, device: torch.device) -> str:
    """Milliseconds of a step, its peak, and the lines of a step, taken one by one, that wait for the GPU."""
    rows: list[list[Value]] = []
    batch = _batches(shape, device)
    for name, (changes, wanted) in VARIANTS.items():
        changes = (
            {**changes, "aux_k": min(changes["aux_k"], shape.latents // 8)} if "aux_k" in changes else changes
        )
        made = _cell(shape, PROFILED, device, changes)
        ms, peak = _tried(made, batch, effort, device)
        waits = None if isinstance(ms, str) else ", ".join(gpu_bits.waits(made(), batch())) or "none"
        rows.append([name, ms, wanted, peak, _planned(shape, PROFILED, changes), waits])
    return table(["", "ms", "wanted", "MiB", "as plan says", "waits"], rows)


def _planned(shape: Shape, precision: str, changes: dict[str, Any] | None = None) -> int:
    """MiB at a step's peak that `harness plan` expects."""
    return round(gpu_memory.predicted(shape, {"precision": precision, **(changes or {})}).step / 2**20)


def by_operator(shape: Shape, effort: Effort, device: torch.device) -> str:
    """Where a step's time on the device goes, step by step, without a graph."""
    batch, step = _batches(shape, device), _cell(shape, PROFILED, device, graph=False)()
    _take(FIRST, step, batch)
    _wait(device)
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as profiled:
        _take(effort.steps, step, batch)
        _wait(device)
    own = "self_device_time_total" if gpu else "self_cpu_time_total"  # microseconds of all steps
    events = [event for event in profiled.key_averages() if (event.device_type.name == "CUDA") == gpu]
    times = sorted(((getattr(event, own) / 1e3 / effort.steps, event.key) for event in events), reverse=True)
    if not (total := sum(ms for ms, _ in times)):
        return "The profiler saw no work of the GPU: it is not let to its counters here.\n"
    rows: list[list[Value]] = [[_short(name), ms, f"{ms / total:.0%}"] for ms, name in times[:OPERATORS]]
    return table(["operator", "ms per step", "share"], [*rows, ["all", total, "100%"]])


def _short(kernel: str) -> str:
    """The name of a kernel in C++ without its arguments and namespaces."""
    return kernel.removeprefix("void ").replace("(anonymous namespace)::", "").split("<")[0].split("(")[0][:60]


def _batches(shape: Shape, device: torch.device) -> Batches:
    """Batches [B, D] that lie on the device, so that nobody is timed copying."""
    return Batches(activations(shape.width, max(20_000, 2 * shape.batch)).to(device), shape.batch)


def _cell(
    shape: Shape, precision: str, device: torch.device, changes: dict[str, Any] | None = None, graph: bool = True
) -> Callable[[], Step]:
    """What makes a cell and gives its step, as a worker takes it, on batches [B, D]."""
    given = {"latents": shape.latents, "k": shape.k, "batch": shape.batch, "tokens": LONG, "lr": LR, "warmup": 0.0}
    recipe = Recipe(**{**given, "precision": precision, **(changes or {})})

    def made() -> Step:
        cell = Cell(recipe, shape.width, device)
        if recipe.aux_k:
            _quarter_dead(cell)
        if not graph:
            cell._graph = None
        return cell.step

    return made


def _quarter_dead(cell: Cell) -> None:
    """Every fourth latent is too weak to fire, as long as it hardly learns, and has not for long."""
    cell.last_fired[::4] = cell.restarted[::4] = -(10**9)
    with torch.no_grad():
        cell.sae.stack()[0].encoder[::4] *= 0.01


def _product(shape: Shape, precision: str, device: torch.device) -> Callable[[], Step]:
    """The encoder's product alone: weight, inputs [B, D] and output [B, N] are there in its precision."""

    def made() -> Step:
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        weight = torch.randn(shape.latents, shape.width, device=device).to(dtype)
        given = torch.randn(shape.batch, shape.width, device=device).to(dtype)
        out = torch.empty(shape.batch, shape.latents, device=device, dtype=dtype)

        def step(_: Tensor) -> None:
            with float32_products(precision, device):
                torch.mm(given, weight.T, out=out)

        return step

    return made


def _tried(
    make: Callable[[], Step], batch: Batches, effort: Effort, device: torch.device
) -> tuple[Value, int | None]:
    """As `_measured`; of what fails, as where a GPU is too small, why: the other rows are worth having."""
    try:
        return _measured(make, batch, effort, device)
    except Exception as failure:
        return why(failure), None


def _measured(
    make: Callable[[], Step], batch: Batches, effort: Effort, device: torch.device
) -> tuple[float, int | None]:
    """Milliseconds of a step, the median of groups of steps; MiB of the device at the peak, batches left out."""
    gc.collect()  # cells and optimizers of before hang together in circles
    forget_shared_memory()  # of their graphs, which others cannot use
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    step = make()
    _take(FIRST, step, batch)
    times = [_milliseconds(step, batch, effort.steps, device) for _ in range(effort.rounds)]
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if device.type == "cuda" else None
    return statistics.median(times), None if peak is None else round(peak)


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


def _own(page: Path, name: str) -> Path:
    """The page, or one beside it if that is of another GPU."""
    if not page.exists() or f" on {name}, torch " in page.read_text(encoding="utf-8"):
        return page
    own = page.with_stem(f"{page.stem}_{re.sub(r'[^a-z0-9]+', '_', name.lower())}")
    print(f"{page} is of another GPU: this one's page is {own}", file=sys.stderr, flush=True)
    return own


def main() -> None:
    """Print the page, or write it where `--out` says; what is measured is kept, whatever comes after it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on a CPU if need be")
    parser.add_argument("--only", choices=NAMES, action="append", help="a table; may be given several times")
    parser.add_argument("--seconds", type=float, default=STREAMED, help="of the streamed pass (default: 20)")
    parser.add_argument("--text", type=Path, help="a parquet file with a column `text`, to be streamed")
    parser.add_argument("--tokenizer", type=Path, help="the folder of a tokenizer for it")
    parser.add_argument("--out", type=Path, help="file to write (default: the terminal)")
    options = parser.parse_args()
    if (options.text is None) != (options.tokenizer is None):
        parser.error("--text and --tokenizer: expected both or none")
    text = (options.text, options.tokenizer) if options.text else None
    if not (options.quick or torch.cuda.is_available()):
        parser.error("torch finds no GPU on this machine; --quick makes do with a CPU")
    effort = SHORT if options.quick else FULL
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    page = f"# A step on a GPU\n\nMeasured {time.strftime('%F')} on {name}, torch {torch.__version__}.\n\n"
    out = options.out and _own(options.out, name)
    if out is None:
        print(page, end="")
    for part in tables(effort, quick=options.quick, only=options.only, seconds=options.seconds, text=text):
        page += part
        if out is not None:
            out.write_text(page, encoding="utf-8")
        else:
            print(part, end="", flush=True)


if __name__ == "__main__":
    main()
