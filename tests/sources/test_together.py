"""Two studies of one source are started together in a fresh workspace: one process prepares, the other waits."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from harness.activations.store import ActivationStore
from harness.files import read_record
from harness.locks import exclusive
from tests.conftest import STUDY

SOURCE = """
kind: synthetic
width: 16
features: 256
tokens: 40_000
held_out_tokens: 1024
active: 4
noise: 0.1
dtype: float32
"""
NAMES = ("first", "second")
LATE = 300  # seconds: the machine may be busy with something else


@pytest.fixture
def workspace(tmp_path, databases) -> Path:
    (tmp_path / "studies/sources").mkdir(parents=True)
    (tmp_path / "studies/sources/known.yaml").write_text(SOURCE)
    shutil.copytree(databases, tmp_path / "runs")
    study = STUDY.lstrip().replace("sources/random.yaml", "sources/known.yaml").replace("tuning_seeds: [2]\n", "")
    for old, new in (("25_000", "1_024"), ("[1e-3, 4e-3]", "[4e-3]"), ("[none, sparse 2]", "[none]")):
        assert old in study
        study = study.replace(old, new)
    for seed, name in enumerate(NAMES):
        (tmp_path / f"studies/{name}.yaml").write_text(study.replace("[0, 1]", f"[{seed}]"))
    return tmp_path


def started(workspace: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness", "run", f"studies/{name}.yaml", "--workers", "1"]
    return subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def when(found: Callable[[], object]) -> None:
    end = time.monotonic() + LATE
    while not found():
        assert time.monotonic() < end
        time.sleep(0.002)


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


@pytest.mark.chaos
@pytest.mark.parametrize("end", ["it goes on", "it is killed"])
def test_one_prepares_and_the_other_waits(workspace, end):
    folder = workspace / "data/known"
    processes = [started(workspace, name) for name in NAMES]
    when(lambda: list(folder.glob(".activations.new/*.npy")))
    pid = int(re.match(r"process (\d+) on ", (folder / ".lock").read_text())[1])
    os.kill(pid, signal.SIGSTOP)
    (one,), (other,) = [[p for p in processes if (p.pid == pid) == mine] for mine in (True, False)]
    assert not (folder / "activations").exists()
    assert re.fullmatch(
        rf"data/known: waiting for process {pid} on .*, which is preparing it\n", line_of(other.stderr)
    )
    os.kill(pid, signal.SIGKILL if end == "it is killed" else signal.SIGCONT)
    ends = {process: process.communicate(timeout=LATE) for process in (one, other)}
    assert [ends[process][1] for process in (one, other)] == ["", ""]  # nothing more
    assert one.returncode == (-signal.SIGKILL if end == "it is killed" else 0)
    assert other.returncode == 0

    made = "activations known: 40,000 + 1,024 tokens"
    assert [made in ends[process][0] for process in (one, other)] == [end == "it goes on", end == "it is killed"]
    assert (f"data/known: made meanwhile by process {pid} on " in ends[other][0]) == (end == "it goes on")
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "activations"]
    store = ActivationStore.open(folder / "activations")
    store.verify()
    assert np.abs(store.read("train", 0, 40_000)).sum(1).all()  # no row of zeros
    finished = [name for name, process in zip(NAMES, processes, strict=True) if process.returncode == 0]
    for name in finished:
        study = read_record(workspace / f"results/{name}/study.json")
        assert study["source"]["fingerprint"] == store.fingerprint
        assert len((workspace / f"results/{name}/cells.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_run_is_stopped_by_a_signal_before_its_activations_are_there(workspace, number):
    with exclusive(workspace / "data/known/.lock") as taken:
        assert taken
        process = started(workspace, NAMES[0])
        assert "waiting for " in line_of(process.stderr)
        process.send_signal(number)
        _, said = process.communicate(timeout=LATE)
    assert (process.returncode, said) == (130, "harness: stopped; the same command continues from here\n")
