"""Timing in turns: all contenders of a comparison are alive at once and step one after the other, round after
round, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.shape import Shape
from harness.engines.pool import ALLOCATOR
from harness.progress import track

ROOT = Path(__file__).parents[1]
PEERS = {  # package -> the environment that `make bench` installs it in
    "sparsify": ".venv-sparsify",
    "saelens": ".venv-peers",
    "dictionary_learning": ".venv-dictionary-learning",
}


@dataclass
class Times:
    """Of one contender: milliseconds of its steps, and its memory at the peak, libraries and data left out."""

    ms: list[float] = field(default_factory=list)
    bytes: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.ms)

    @property
    def mean(self) -> float:
        """What a step is in a sum of many, slow ones and all."""
        return statistics.fmean(self.ms)


@dataclass(frozen=True)
class Effort:
    """How long to look."""

    rounds: int
    steps: int  # a round
    threads: int


@dataclass(frozen=True)
class Entry:
    """Who steps on what."""

    contender: str
    shape: Shape


def in_turns(entries: Mapping[str, Entry], effort: Effort, what: str) -> dict[str, Times]:
    """Time all entries, by name."""
    with taking_turns(entries, effort) as (times, turn):
        for _ in track(range(effort.rounds), effort.rounds, what):
            turn()
    return times


@contextmanager
def taking_turns(
    entries: Mapping[str, Entry], effort: Effort
) -> Iterator[tuple[dict[str, Times], Callable[[], None]]]:
    """The times of all entries, by name, and what lets each of them take its steps once more."""
    times = {name: Times() for name in entries}
    with ExitStack() as stack:
        running = {name: stack.enter_context(_process(entry, effort.threads)) for name, entry in entries.items()}

        def turn() -> None:
            for name, process in running.items():
                answer = _ask(process, effort.steps)
                times[name].ms += answer["ms"]
                times[name].bytes = answer["bytes"]

        yield times, turn


@contextmanager
def _process(entry: Entry, threads: int) -> Iterator[subprocess.Popen[str]]:
    """A contender that is ready; its package's environment decides the interpreter, and all have one allocator."""
    command = [python_of(entry.contender), "-m", "benchmarks.contender", entry.contender]
    environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, json.dumps(entry.shape.as_dict()), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "true", "WANDB_MODE": "disabled"},
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{entry.contender} on {entry.shape}: did not start; what it says is above")
        yield process
    finally:
        process.kill()
        process.wait()


def python_of(contender: str) -> str:
    """The interpreter that has what this contender imports."""
    for package, environment in PEERS.items():
        if contender.startswith(package):
            return str(ROOT / environment / "bin" / "python")
    return sys.executable


def _ask(process: subprocess.Popen[str], steps: int) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer
