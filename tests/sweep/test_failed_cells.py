"""A sweep with failed cells says so to whoever started it: `dvc repro` tries again."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.activations.store import ActivationStore
from harness.commands.cells import known_cells
from harness.study.spec import load_study
from harness.workspace import Workspace
from tests.sweep.test_sweep import records

PIPELINE = f"""
stages:
  sweep:
    cmd: {sys.executable} -m harness run studies/small.yaml --workers 1 --checkpoint-seconds 0
    deps: [studies/small.yaml]
    outs: [results/small/cells.jsonl: {{cache: false, persist: true}}]
"""


def states() -> list[str]:
    return [row["state"] for row in records(Path(), "cells.jsonl")]


@pytest.mark.chaos
def test_dvc_tries_again_while_cells_have_failed(small_study, databases):
    """One cell diverges, which is a result; the other one fails, and is tried again without any edit."""
    text = small_study.read_text().partition("axes:")[0].replace("tokens: 25_000", "tokens: 2_000")
    recipe = text + "  optimizer: muon\n  gradient_clip: 1e9\n"
    small_study.write_text(recipe + "axes: {lr: [1e6, 1e-3]}\nseeds: [0]\n")
    shutil.copytree(databases, "runs")
    study = load_study(small_study)
    store = ActivationStore.open(Path("data/random/activations"))
    _, second = known_cells(study, store, Workspace(Path()))(lambda cell: None).cells
    obstacle = Path("runs/cells") / second.id / "checkpoints"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("in the way of a folder")
    Path("dvc.yaml").write_text(PIPELINE)
    dvc("init", "--no-scm", "--quiet")

    assert dvc("repro") != 0
    assert states() == ["diverged", "failed"]
    obstacle.unlink()
    assert dvc("repro") == 0
    assert states() == ["diverged", "complete"]


def dvc(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False).returncode
