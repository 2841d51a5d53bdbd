"""A whole grid, as a user runs it: `harness` commands, beside what their parts cost alone."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.shape import Shape
from benchmarks.slices import in_slices
from benchmarks.steps import FASTEST
from benchmarks.table import Value, table
from benchmarks.turns import ROOT, Effort, Entry, in_turns, taking_turns
from harness.activations.capture import TOKENS_AT_ONCE, find_module, hidden_states, load_model
from harness.scheduling.pool import ALLOCATOR
from harness.study.source import SourceFolders, TextSource, load_source
from harness.training.trainer import CURVE_POINTS

TEXT = ["numpy", "scipy", "pandas", "sklearn", "matplotlib", "polars", "torch", "optuna", "datasets", "sqlalchemy"]
CONTEXT = 64
HELD_OUT = 4096


@dataclass(frozen=True)
class Scale:
    """How large the grid is: twelve cells of `axes`, trained on `tokens`."""

    base: Shape
    tokens: int
    axes: dict[str, list[Any]]
    layers: int  # of the language model
    minute: int  # tokens of a cell of about a minute
    minutes: int  # how many such cells


FULL = Scale(
    base=Shape(256, 4096, 32, 4096),
    tokens=800_000,
    axes={"latents": [2048, 4096], "k": [16, 32, 64], "lr": [2e-4, 4e-4]},
    layers=5,
    minute=2_800_000,
    minutes=4,
)
QUICK = Scale(
    base=Shape(32, 256, 8, 256),
    tokens=10_000,
    axes={"latents": [128, 256], "k": [4, 8, 16], "lr": [2e-4, 4e-4]},
    layers=1,
    minute=10_000,
    minutes=2,
)


def grid(scale: Scale, effort: Effort, *, peers: bool) -> str:
    """Twelve cells as one cohort against the sum of their steps and one pass of the language model, against
    separate runs that each make their own activations, and against the peers."""
    shapes = [
        replace(scale.base, latents=latents, k=k) for latents, k, _ in product(*scale.axes.values())
    ]  # the learning rate costs nothing
    entries = {str(shape): Entry("harness", shape) for shape in shapes}
    with _workplace(scale) as root, taking_turns(entries, replace(effort, steps=1)) as (times, turn):
        source = load_source(root / "studies" / "sources" / "bench.yaml")
        assert isinstance(source, TextSource)
        passes = Passes(source, root, effort.threads)
        captured = _harness(root, "activations", str(source.path), threads=effort.threads, between=passes)
        one_pass = passes.seconds
        turn()
        cohort = _sweep(root, "grid", effort.threads, cohort=12, between=turn)
        separate = _sweep(root, "grid", effort.threads, cohort=1, between=turn)
        fewer = {count: _sweep(root, f"grid{count}", effort.threads, cohort=12) for count in (1, 4)}
    steps = sum(times[str(shape)].median for shape in shapes) * (scale.tokens // scale.base.batch) / 1e3
    least = steps + one_pass
    apart = 12 * captured + separate
    rows: list[list[Value]] = [
        ["the twelve cells' steps alone", steps, steps / least],
        ["one pass of the language model alone", one_pass, one_pass / least],
        ["harness: activations, then one cohort of twelve", captured + cohort, (captured + cohort) / least],
        ["of which the activations, kept for every further study", captured, captured / least],
        ["of which the cohort, from command to results", cohort, cohort / least],
        ["harness, one cell at a time", captured + separate, (captured + separate) / least],
        ["twelve runs of their own, each with its activations", apart, apart / least],
    ]
    if peers:
        others = _alone(shapes, scale, effort, FASTEST)
        shared = others["dictionary_learning"] + one_pass
        rows.append(["dictionary_learning: twelve trainers on one stream*", shared, shared / least])
        for name in ("sparsify", "SAELens"):
            apart = others[name] + 12 * one_pass
            rows.append([f"{name}: twelve runs*", apart, apart / least])
    cells: list[list[Value]] = [[n, s, s / n] for n, s in [*fewer.items(), (12, cohort)]]
    note = "\n\\* the medians of its steps, times their number, and passes of the language model; nothing else\n"
    growth = table(["cells", "a sweep, from command to results", "a cell"], cells)
    return table(["", "seconds", "of steps and one pass"], rows) + (note if peers else "") + f"\n{growth}"


def overhead(scale: Scale, effort: Effort) -> str:
    """A sweep of cells of about a minute, one at a time, against their steps alone."""
    steps = scale.minute // scale.base.batch
    entry = {"step": Entry("harness", scale.base)}
    with _workplace(scale) as root, taking_turns(entry, replace(effort, steps=4)) as (times, turn):
        _harness(root, "activations", str(root / "studies" / "sources" / "bench.yaml"), threads=effort.threads)
        turn()
        whole = _sweep(root, "minutes", effort.threads, cohort=1, between=turn)
        least = _sweep(root, "moments", effort.threads, cohort=1, between=turn)
    step = times["step"].median / 1e3
    alone, around = steps * scale.minutes * step, least - CURVE_POINTS * scale.minutes * step
    rows: list[list[Value]] = [
        [f"steps alone: {scale.minutes} cells of {steps:,}", alone, 1.0],
        ["the sweep, from command to results", whole, whole / alone],
        [f"a sweep of {scale.minutes} cells of {CURVE_POINTS} steps, less those steps", around, around / alone],
    ]
    return table(["", "seconds", "of the steps"], rows)


class Passes:
    """The language model's pass over as many tokens as the activations need, some batches at a time."""

    def __init__(self, source: TextSource, root: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model, _ = load_model(SourceFolders(source, root / "data").language_model)
        self._module = find_module(source, self._model)
        self._ids = torch.randint(300, (TOKENS_AT_ONCE // CONTEXT, CONTEXT))
        wanted = source.activations
        self._batches = -(-(wanted.tokens + wanted.held_out_tokens) // TOKENS_AT_ONCE)
        self._times: list[float] = []
        hidden_states(self._model, self._module, self._ids)

    def __call__(self) -> None:
        """Time two batches, up to the hook."""
        for _ in range(2):
            start = time.perf_counter()
            hidden_states(self._model, self._module, self._ids)
            self._times.append(time.perf_counter() - start)

    @property
    def seconds(self) -> float:
        """Of the whole pass."""
        if not self._times:
            self()
        return self._batches * statistics.median(self._times)


def _alone(shapes: list[Shape], scale: Scale, effort: Effort, who: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """Seconds that the steps of all cells take, by who takes them, each in its fastest configuration."""
    seconds = dict.fromkeys(who, 0.0)
    for shape in dict.fromkeys(map(str, shapes)):
        cells = [candidate for candidate in shapes if str(candidate) == shape]
        entries = {one: Entry(one, cells[0]) for several in who.values() for one in several}
        times = in_turns(entries, replace(effort, rounds=max(1, effort.rounds // 2)), f"the peers on {shape}")
        for name, several in who.items():
            steps = len(cells) * (scale.tokens // scale.base.batch)
            seconds[name] += steps * min(times[one].median for one in several) / 1e3
    return seconds


@contextmanager
def _workplace(scale: Scale) -> Iterator[Path]:
    """A folder with a source, whose language model is there, and studies."""
    base = scale.base
    source = {
        "corpus": {"packages": TEXT, "held_out": 0.05, "vocabulary": 4096},
        "language_model": {
            "layers": scale.layers,
            "width": base.width,
            "heads": 4,
            "context": CONTEXT,
            "tokens": 20 * CONTEXT * 16,  # it need not be good: it costs the same
            "batch": 16,
            "lr": 1e-3,
        },
        "activations": {
            "hook": f"transformer.h.{scale.layers - 1}",
            "tokens": scale.tokens,
            "held_out_tokens": HELD_OUT,
        },
    }
    recipe = {"latents": base.latents, "k": base.k, "batch": base.batch, "dead_window": HELD_OUT}
    axes = {name: list(values) for name, values in scale.axes.items()}
    some = {"k": [base.k // 2, base.k], "lr": scale.axes["lr"]}
    cheap = {"lr": scale.axes["lr"]}  # costs nothing, so that all cells' steps cost the same
    seeds = list(range(3, 3 + scale.minutes // 2))
    moment = CURVE_POINTS * base.batch  # as many points of a curve, and little else
    studies = {
        "grid": _study(recipe | {"tokens": scale.tokens}, axes, [0]),
        "grid4": _study(recipe | {"tokens": scale.tokens}, some, [1]),
        "grid1": _study(recipe | {"tokens": scale.tokens}, {"k": [base.k]}, [2]),
        "minutes": _study(recipe | {"tokens": scale.minute}, cheap, seeds),
        "moments": _study(recipe | {"tokens": moment}, cheap, seeds),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "studies" / "sources").mkdir(parents=True)
        path = root / "studies" / "sources" / "bench.yaml"
        path.write_text(yaml.safe_dump(source), encoding="utf-8")
        for name, study in studies.items():
            (root / "studies" / f"{name}.yaml").write_text(
                yaml.safe_dump(study, sort_keys=False), encoding="utf-8"
            )
        _harness(root, "corpus", str(path), threads=2)
        _harness(root, "language-model", str(path), threads=2)
        yield root


def _study(recipe: dict[str, Any], axes: dict[str, list[Any]], seeds: list[int]) -> dict[str, Any]:
    question = "What does a grid cost?"
    return {"question": question, "source": "sources/bench.yaml", "recipe": recipe, "axes": axes, "seeds": seeds}


def _harness(root: Path, *arguments: str, threads: int, between: Callable[[], Any] = lambda: None) -> float:
    """Seconds that a command takes; `between` its slices others have their turns."""
    command = [sys.executable, "-m", "harness", "--root", str(root), *arguments]
    return in_slices(
        command, {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}, between
    )


def _sweep(
    root: Path, study: str, threads: int, *, cohort: int, between: Callable[[], Any] = lambda: None
) -> float:
    """Seconds that `harness run` takes, by one worker, with nothing known of before."""
    shutil.rmtree(root / "runs", ignore_errors=True)
    options = ("--workers", "1", "--threads", str(threads), "--cohort", str(cohort))
    return _harness(
        root, "run", str(root / "studies" / f"{study}.yaml"), *options, threads=threads, between=between
    )
