"""A folder in which `harness` commands run as a user's do: sources, studies, and what each command takes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.shape import Shape
from benchmarks.slices import in_slices
from benchmarks.turns import ROOT
from harness.engines.pool import ALLOCATOR

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
    minute: float  # seconds that a long cell takes
    minutes: int  # how many such cells


@contextmanager
def workplace(scale: Scale) -> Iterator[Path]:
    """A folder with a source whose language model is there."""
    base = scale.base
    source = {
        "kind": "docstrings",
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
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "studies" / "sources").mkdir(parents=True)
        path = root / "studies" / "sources" / "bench.yaml"
        path.write_text(yaml.safe_dump(source), encoding="utf-8")
        for step in ("corpus", "language_model"):
            harness(root, "prepare", str(path), "--step", step, threads=2)
        yield root


def write_study(
    root: Path, name: str, base: Shape, tokens: int, axes: dict[str, list[Any]], seeds: Sequence[int] = (0,)
) -> None:
    """A study of cells that differ from `base` in `axes`."""
    study = {
        "question": "What does a grid cost?",
        "source": "sources/bench.yaml",
        "recipe": {
            "latents": base.latents,
            "k": base.k,
            "batch": base.batch,
            "dead_window": HELD_OUT,
            "tokens": tokens,
        },
        "axes": {axis: list(values) for axis, values in axes.items()},
        "seeds": list(seeds),
    }
    text = yaml.safe_dump(study, sort_keys=False)
    (root / "studies" / f"{name}.yaml").write_text(text, encoding="utf-8")


def harness(root: Path, *arguments: str, threads: int, between: Callable[[], Any] = lambda: None) -> float:
    """Seconds that a command takes; `between` its slices others have their turns."""
    command = [sys.executable, "-m", "harness", "--root", str(root), *arguments]
    return in_slices(
        command, {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}, between
    )


def sweep(
    root: Path, study: str, threads: int, *, cohort: int, between: Callable[[], Any] = lambda: None
) -> float:
    """Seconds that `harness run` takes, by one worker, with nothing known of before."""
    shutil.rmtree(root / "runs", ignore_errors=True)
    options = ("--workers", "1", "--threads", str(threads), "--cohort", str(cohort))
    return harness(
        root, "run", str(root / "studies" / f"{study}.yaml"), *options, threads=threads, between=between
    )
