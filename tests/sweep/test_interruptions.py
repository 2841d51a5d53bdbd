"""Workers that hang, are slow or are told to go, and a controller that is: real signals to real processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import main
from tests.conftest import make_workspace
from tests.sweep.recorded import assert_each_cell_once
from tests.sweep.test_sweep import FILES, alive, points, records, wait_until, workers_of

ARGUMENTS = ["run", "studies/small.yaml", "--workers", "2", "--cohort", "1", "--checkpoint-seconds", "0.1"]
PATIENCE = 6.0  # seconds: a worker takes three to import torch


def workspace(root: Path, databases: Path) -> Path:
    """Two cells that train for longer than a controller is stopped below."""
    root.mkdir()
    study = make_workspace(root)
    text = study.read_text().partition("axes:")[0].replace("25_000", "1_500_000")
    study.write_text(text + "axes: {layers: [none, sparse 2]}\nseeds: [0]\n")
    shutil.copytree(databases, root / "runs")
    return root


def start(patience: float = 600.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness", *ARGUMENTS, "--patience-seconds", str(patience)]
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, **said, start_new_session=True)


def checkpointed() -> dict[str, int]:
    """The last step that each cell has saved."""
    saved = Path("runs/cells").glob("*/checkpoints/*.safetensors")
    steps: dict[str, int] = {}
    for path in saved:
        steps[path.parts[-3]] = max(int(path.stem), steps.get(path.parts[-3], 0))
    return steps


def tables() -> dict[str, bytes]:
    return {name: Path("results/small", name).read_bytes() for name in FILES}


def finish(sweep: subprocess.Popen[str]) -> str:
    said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, said
    return said


@pytest.mark.chaos
def test_hung_slow_and_preempted_workers_and_a_preempted_controller_change_nothing(
    tmp_path, databases, monkeypatch
):
    monkeypatch.chdir(workspace(tmp_path / "undisturbed", databases))
    main(ARGUMENTS)
    undisturbed = tables()
    root = workspace(tmp_path / "disturbed", databases)
    monkeypatch.chdir(root)

    # One worker is slow, one is told to go: the first stays, the cell of the second goes on in a third.
    sweep = start(PATIENCE)
    wait_until(lambda: len(checkpointed()) == 2)
    slow, preempted = workers_of(sweep)
    os.kill(slow, signal.SIGSTOP)
    time.sleep(1)
    os.kill(slow, signal.SIGCONT)
    os.kill(preempted, signal.SIGTERM)
    wait_until(lambda: not alive([preempted]))
    wait_until(lambda: preempted not in workers_of(sweep) and len(workers_of(sweep)) == 2)
    assert slow in workers_of(sweep)

    # The controller itself was stopped for longer than its patience: its workers are as alive as before.
    workers = workers_of(sweep)
    sweep.send_signal(signal.SIGSTOP)
    time.sleep(PATIENCE + 1)
    sweep.send_signal(signal.SIGCONT)
    time.sleep(1)
    assert workers_of(sweep) == workers

    # Preempted: every cell is checkpointed, every process gone.
    workers = workers_of(sweep)
    sweep.send_signal(signal.SIGTERM)
    said, _ = sweep.communicate(timeout=30)
    assert sweep.returncode == 130
    assert "Traceback" not in said
    assert "hangs" not in said
    assert not alive(workers)
    assert len(checkpointed()) == 2

    # A worker that hangs is killed, and its cell goes on where it was saved.
    sweep = start(PATIENCE)
    wait_until(lambda: len(workers_of(sweep)) == 2)
    hung = workers_of(sweep)[0]
    os.kill(hung, signal.SIGSTOP)
    said = finish(sweep)
    assert "has sent no message for" in said
    assert not alive([hung])
    assert tables() == undisturbed
    assert_each_cell_once(root, [row["cell"] for row in records(root, "cells.jsonl")], points(root))
