"""Sweeps whose cells cost nothing: what Optuna, MLflow and the folders cost a cell, as their number grows.

Everything is real but the workers: `python -m benchmarks.records STUDY` runs a study in the current folder with an
engine that writes results at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from benchmarks.table import Value, table
from benchmarks.turns import ROOT
from harness.activations.store import ActivationStore
from harness.activations.store_writer import StoreWriter
from harness.engines.engine import Event, Options
from harness.records.urls import storage_url, tracking_url
from harness.study.curve import POINTS, logging_steps
from harness.study.known import known
from harness.study.recipe import Recipe
from harness.study.spec import load_study
from harness.sweep.controller import Sweep
from harness.workers.cell_folder import CellFolder
from harness.workers.job import Job
from harness.workspace import Workspace
from tests.sweep.servers import PostgreSQL, binaries

WORKERS = 4
WIDTH, TOKENS = 16, 4096
LEVELS = 10  # of the first axis; the second has two, and the rest are seeds
QUALITY = {
    "mse": 1.0,
    "nmse": 0.5,
    "fvu": 0.5,
    "l0": 4.0,
    "dead_fraction": 0.1,
    "alive": 58,
    "effective_latents": 40.0,
}


class Instant:
    """An engine whose workers have trained a cell as soon as they are given it."""

    def __init__(self, steps: int) -> None:
        points = [
            {"step": step, "tokens": 64 * step, "measured_tokens": 64} for step in logging_steps(steps, POINTS)
        ]
        figures = {"train_fvu": 0.5, "train_l0": 4.0, "train_dead_fraction": 0.1}
        figures |= {f"heldout_{name}": QUALITY[name] for name in ("mse", "nmse", "fvu", "l0")}
        self._curve = "".join(json.dumps({**point, **figures}) + "\n" for point in points)
        self._events: deque[Event] = deque()

    def free_bytes(self, slot: int) -> int:
        return 2**40

    def submit(self, slot: int, job: Job) -> None:
        ran = {"torch": "none", "device": "cpu", "threads": 1, "seconds": 0.0, "parameters": 1, "tokens": 640}
        for path, recipe in job.cells.items():
            folder = CellFolder(Path(path))
            folder.curve.write_text(self._curve, encoding="utf-8")
            for measurement in job.measurements:
                folder.record_measured(measurement, Recipe(**recipe), QUALITY)
            folder.publish({"state": "complete", "reason": None, "score": QUALITY["fvu"], **ran})
            self._events.append(Event(slot, {"cell": folder.path.name, "end": "done"}))

    def wait(self, seconds: float) -> list[Event]:
        said = list(self._events)
        self._events.clear()
        return said

    def kill(self, slot: int) -> None:
        pass

    def stop(self, grace: float) -> None:
        pass


def sweep(path: Path) -> float:
    """Seconds that all cells of a study take."""
    study = load_study(path)
    storage, tracking = os.environ.get("HARNESS_STORAGE"), os.environ.get("HARNESS_TRACKING")
    workspace = Workspace(
        Path(),
        storage and storage_url(storage, "HARNESS_STORAGE"),
        tracking and tracking_url(tracking, "HARNESS_TRACKING"),
    )
    store = ActivationStore.open(study.source.store(workspace.data))

    options = Options(WORKERS, 1, ("cpu",), 1e9, 1e9, cohort=1)
    start = time.perf_counter()
    Sweep(study, partial(known, study, store.fingerprint), store, workspace, options, lambda *_: Instant(10)).run(
        Console(file=sys.stderr)
    )
    return time.perf_counter() - start


def growth(numbers: tuple[int, int], *, servers: bool = True) -> str:
    """Seconds a cell at two numbers of cells, and those of a restart with nothing to do, by database."""
    rows: list[list[Value]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        databases: dict[str, PostgreSQL | None] = {"SQLite": None}
        if servers and binaries():
            server = PostgreSQL(Path(folder))
            stack.callback(server.stop)
            databases["PostgreSQL"] = server
        for name, there in databases.items():
            found = [_measure(Path(folder) / f"{name}{number}", number, there) for number in numbers]
            (few, _), (many, again) = found
            rows.append([name, few / numbers[0], many / numbers[1], many / numbers[1] / (few / numbers[0]), again])
    heads = [f"{number:,} cells" for number in numbers]
    return table(["Optuna and MLflow on", *heads, "ratio", f"restart with {numbers[1]:,}"], rows)


def _measure(root: Path, number: int, server: PostgreSQL | None) -> tuple[float, float]:
    """Seconds of the sweep, and of `harness run` once it has ended."""
    (root / "studies").mkdir(parents=True)
    study = _study(root, number)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if server:
        for variable in ("HARNESS_STORAGE", "HARNESS_TRACKING"):
            database = f"{variable.lower()}_{number}"
            server.execute(f"CREATE DATABASE {database}")
            environment[variable] = server.url(database)
    first = subprocess.run(
        [sys.executable, "-m", "benchmarks.records", str(study)],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    command = [sys.executable, "-m", "harness", "run", str(study), "--device", "cpu"]
    start = time.perf_counter()
    subprocess.run(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, check=True)
    return float(first.stdout), time.perf_counter() - start


def _study(root: Path, number: int) -> Path:
    """A study of so many cells, and its activations."""
    store = root / "data" / "random" / "activations"
    store.mkdir(parents=True)
    writer = StoreWriter(store, {"train": TOKENS, "held_out": TOKENS}, WIDTH, "float32")
    for split in writer.tokens:
        rows = np.random.default_rng(0).standard_normal((TOKENS, WIDTH)).astype(np.float32)
        writer.put(split, np.arange(TOKENS), rows)
    writer.finish(hook="transformer.h.0", model="none", model_fingerprint="none")
    source = {
        "kind": "docstrings",
        "corpus": {"packages": ["rich"]},
        "language_model": {
            "layers": 1,
            "width": WIDTH,
            "heads": 2,
            "context": 16,
            "tokens": 1000,
            "batch": 4,
            "lr": 1e-3,
        },
        "activations": {
            "hook": "transformer.h.0",
            "tokens": TOKENS,
            "held_out_tokens": TOKENS,
            "dtype": "float32",
        },
    }
    (root / "studies" / "random.yaml").write_text(yaml.safe_dump(source))
    study = {
        "question": "What does a cell cost that costs nothing?",
        "source": "random.yaml",
        "recipe": {"latents": 64, "tokens": 640, "batch": 64, "dead_window": 64},
        "axes": {"k": list(range(2, 2 + LEVELS)), "lr": [1e-3, 2e-3]},
        "seeds": list(range(number // (2 * LEVELS))),
    }
    path = root / "studies" / "cells.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path.relative_to(root)


if __name__ == "__main__":
    print(sweep(Path(sys.argv[1])))
