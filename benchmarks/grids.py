"""A whole grid, as a user runs it: `harness` commands, beside what their parts cost alone."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import cast

import torch

from benchmarks.shape import Shape
from benchmarks.steps import FASTEST
from benchmarks.table import Value, table
from benchmarks.turns import Effort, Entry, in_turns, taking_turns
from benchmarks.workplace import CONTEXT, Scale, harness, sweep, workplace, write_study
from harness.activations.capture import TOKENS_AT_ONCE
from harness.activations.hook import find_hooks, hidden_states
from harness.activations.pretrained_model import load_model
from harness.sources.docstrings import LANGUAGE_MODEL, Docstrings
from harness.sources.kinds import load_source
from harness.study.curve import POINTS

STORED = 800_000  # tokens that are read again and again, where what matters is how a step's are

FULL = Scale(
    base=Shape(256, 4096, 32, 4096),
    tokens=3_000_000,
    axes={"latents": [2048, 4096], "k": [16, 32, 64], "lr": [2e-4, 4e-4]},
    layers=5,
    minute=60,
    minutes=4,
)
QUICK = Scale(
    base=Shape(32, 256, 8, 256),
    tokens=10_000,
    axes={"latents": [128, 256], "k": [4, 8, 16], "lr": [2e-4, 4e-4]},
    layers=1,
    minute=0.2,
    minutes=2,
)


def grid(scale: Scale, effort: Effort, *, peers: bool) -> str:
    """Twelve cells as one cohort against the sum of their steps and one pass of the language model, against
    separate runs that each make their own activations, and against the peers."""
    shapes = [
        replace(scale.base, latents=latents, k=k) for latents, k, _ in product(*scale.axes.values())
    ]  # the learning rate costs nothing
    entries = {str(shape): Entry("harness", shape) for shape in shapes}
    with workplace(scale) as root, taking_turns(entries, replace(effort, steps=2)) as (times, turn):
        source = cast(Docstrings, load_source(root / "studies" / "sources" / "bench.yaml"))
        passes = Passes(source, root, effort.threads)
        captured = harness(root, "prepare", str(source.path), threads=effort.threads, between=passes)
        one_pass = passes.seconds
        turn()
        some = {"k": [scale.base.k // 2, scale.base.k], "lr": scale.axes["lr"]}
        for name, axes in {"grid": scale.axes, "grid4": some, "grid1": {"k": [scale.base.k]}}.items():
            write_study(root, name, scale.base, scale.tokens, axes)
        cohort = sweep(root, "grid", effort.threads, cohort=12, between=turn)
        separate = sweep(root, "grid", effort.threads, cohort=1, between=turn)
        fewer = {count: sweep(root, f"grid{count}", effort.threads, cohort=12) for count in (1, 4)}
    steps = sum(times[str(shape)].mean for shape in shapes) * (scale.tokens // scale.base.batch) / 1e3
    least = steps + one_pass
    apart = 12 * captured + separate
    rows: list[list[Value]] = [
        ["the twelve cells' steps alone", steps, steps / least],
        ["one pass of the language model alone", one_pass, one_pass / least],
        ["harness: activations, then one cohort of twelve cells", captured + cohort, (captured + cohort) / least],
        ["of which activations, reused by every further study", captured, captured / least],
        ["of which the cohort, from command to results", cohort, cohort / least],
        ["harness, one cell at a time", captured + separate, (captured + separate) / least],
        ["twelve separate runs, each with its own activations", apart, apart / least],
    ]
    if peers:
        others = _alone(shapes, scale, effort, FASTEST)
        shared = others["dictionary_learning"] + one_pass
        rows.append(["dictionary_learning: twelve trainers on one stream*", shared, shared / least])
        for name in ("sparsify", "SAELens"):
            apart = others[name] + 12 * one_pass
            rows.append([f"{name}: twelve runs*", apart, apart / least])
    cells: list[list[Value]] = [[n, s, s / n] for n, s in [*fewer.items(), (12, cohort)]]
    note = "\n\\* computed: median step times number of steps, plus passes of the language model; nothing else\n"
    growth = table(["cells", "sweep, from command to results", "per cell"], cells)
    return table(["", "seconds", "relative to steps and one pass"], rows) + (note if peers else "") + f"\n{growth}"


def overhead(scale: Scale, effort: Effort) -> str:
    """A sweep of cells of about a minute, one at a time, against a loop over the same steps and nothing else."""
    with workplace(replace(scale, tokens=min(scale.tokens, STORED))) as root:
        source = load_source(root / "studies" / "sources" / "bench.yaml")
        harness(root, "prepare", str(source.path), threads=effort.threads)
        store = {"store": str(source.store(root / "data"))}
        entries = {
            "in memory": Entry("harness", scale.base),
            "reading": Entry("harness_reading", replace(scale.base, more=store)),
        }
        with taking_turns(entries, replace(effort, steps=4)) as (times, turn):
            turn()
            steps = max(POINTS, round(1e3 * scale.minute / times["reading"].median))
            _write_long(root, scale, steps)
            whole = sweep(root, "minutes", effort.threads, cohort=1, between=turn)
            least = sweep(root, "moments", effort.threads, cohort=1, between=turn)
    cells = scale.minutes
    in_memory, alone = (steps * cells * times[name].mean / 1e3 for name in entries)
    around = least - POINTS / steps * alone
    rows: list[list[Value]] = [
        [f"{cells} cells of {steps:,} steps on batches in memory", in_memory, in_memory / alone],
        ["the same, with batches read from disk: the plain loop", alone, 1.0],
        ["the sweep, from command to results", whole, whole / alone],
        [f"a sweep of {cells} cells of {POINTS} steps, less those steps", around, around / alone],
    ]
    return table(["", "seconds", "relative to the loop"], rows)


def _write_long(root: Path, scale: Scale, steps: int) -> None:
    """Studies of cells of so many steps, and of as few as make all points of a curve."""
    cheap = {"lr": scale.axes["lr"]}  # costs nothing, so that all cells' steps cost the same
    for name, count in {"minutes": steps, "moments": POINTS}.items():
        tokens = count * scale.base.batch
        write_study(root, name, scale.base, tokens, cheap, range(scale.minutes // 2))


class Passes:
    """The language model's pass over as many tokens as the activations need, some batches at a time."""

    def __init__(self, source: Docstrings, root: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model, _ = load_model(source.folder(root / "data") / LANGUAGE_MODEL)
        self._hooks = find_hooks(source, self._model)
        self._ids = torch.randint(300, (TOKENS_AT_ONCE // CONTEXT, CONTEXT))
        wanted = source.activations
        self._batches = -(-(wanted.tokens + wanted.held_out_tokens) // TOKENS_AT_ONCE)
        self._times: list[float] = []
        hidden_states(self._model, self._hooks, self._ids)

    def __call__(self) -> None:
        """Time two batches, up to the hook."""
        for _ in range(2):
            start = time.perf_counter()
            hidden_states(self._model, self._hooks, self._ids)
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
