"""The `harness` command in processes of its own, several at once where they do not depend on each other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from harness.training.sae_files import WEIGHTS

ON = os.environ.get("GPU_TESTS_ON", "cuda")  # the device that all of these tests use: `cuda` or `cpu`
TABLES = ("study.json", "cells.jsonl", "curves.jsonl")  # what does not depend on the day
SECONDS = 100 if ON == "cuda" else 1000  # that a command may take


def start(root: Path, command: str, on: str = ON) -> subprocess.Popen[str]:
    """`harness <command>` in a workspace; without a GPU if it is to run on the CPU."""
    hidden = {} if on == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *command.split()],
        cwd=root,
        env={**os.environ, **hidden},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def harness(root: Path, command: str, on: str = ON) -> str:
    """What the command has printed. Fails if it does, with what its workers have said."""
    process = start(root, command, on)
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    assert process.returncode == 0, "\n".join(
        [f"harness {command}: exit code {process.returncode}", said[-2000:], *logs(root)]
    )
    return said


def logs(root: Path) -> list[str]:
    """The ends of what workers have written of a sweep and of cells that failed."""
    files = [*root.glob("runs/*.log"), *root.glob("runs/cells/*/log.txt"), *root.glob("runs/*.latents/**/log.txt")]
    return [f"{file.relative_to(root)}:\n{file.read_text()[-1500:]}" for file in files[:4]]


def at_once(*work: Callable[[], Any]) -> list[Any]:
    """What each of these gives. They run at the same time."""
    with ThreadPoolExecutor(len(work)) as threads:
        return [future.result() for future in [threads.submit(one) for one in work]]


def workspace(root: Path, databases: Path, **files: str) -> Path:
    """A new workspace. files: the text of study files, and of source files, whose names begin with `source_`."""
    sources = root / "studies" / "sources"
    sources.mkdir(parents=True)
    for name, text in files.items():
        folder = sources if name.startswith("source_") else sources.parent
        (folder / f"{name.removeprefix('source_')}.yaml").write_text(text.lstrip())
    shutil.copytree(databases, root / "runs")
    return root


def cells(root: Path, study: str) -> list[dict[str, Any]]:
    """The rows of a study's `cells.jsonl`."""
    return [json.loads(line) for line in (root / "results" / study / "cells.jsonl").read_text().splitlines()]


def figures(root: Path, study: str) -> dict[str, dict[str, float]]:
    """All held-out figures, by arm and seed. Fails if a cell is not complete, or was not measured."""
    rows = cells(root, study)
    assert {row["state"] for row in rows} == {"complete"}, [(row["arm"], row["reason"]) for row in rows]
    assert not [row["not_measured"] for row in rows if "not_measured" in row]
    return {f"{row['arm']} {row['seed']}": row["heldout"] for row in rows}


def tables(root: Path, study: str, names: Sequence[str] = TABLES) -> dict[str, bytes]:
    return {name: (root / "results" / study / name).read_bytes() for name in names}


def weights(root: Path) -> dict[str, bytes]:
    """The weights of each SAE that was kept, by cell."""
    return {file.parts[-3]: file.read_bytes() for file in root.glob(f"runs/cells/*/sae/{WEIGHTS}")}


def results(root: Path) -> list[dict[str, Any]]:
    """What the workers have said of their cells."""
    return [json.loads(file.read_text()) for file in root.glob("runs/cells/*/result.json")]


def device_name() -> str:
    """As results have it."""
    return torch.cuda.get_device_name(0) if ON == "cuda" else "cpu"
