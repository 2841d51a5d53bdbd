"""Workers that die every few moments, and controllers now and then: the tables are those of an undisturbed run."""

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli import main
from tests.conftest import make_workspace
from tests.sweep.recorded import assert_each_cell_once
from tests.sweep.test_sweep import FILES, alive, points, records, wait_until, workers_of

ARGUMENTS = "run studies/small.yaml --workers 4 --checkpoint-seconds 0.2"
RUN = [sys.executable, "-m", "harness", *ARGUMENTS.split()]
CONTROLLERS = 5  # every fifth kill is the controller's


@dataclass(frozen=True)
class Size:
    layers: Sequence[str]
    lrs: Sequence[float]
    seeds: int
    tokens: int
    kills: int
    pause: float  # seconds between two of them, on average

    @property
    def cells(self) -> int:
        return len(self.layers) * len(self.lrs) * self.seeds

    def axes(self) -> str:
        return f"axes: {{layers: [{', '.join(self.layers)}], lr: {self.lrs}}}\nseeds: {list(range(self.seeds))}\n"


SHORT = Size(["none", "sparse 2"], [1e-3, 4e-3], seeds=2, tokens=60_000, kills=6, pause=0.5)
LONG = Size(["none", "sparse 2", "dense 2-2"], [1e-3, 4e-3], seeds=4, tokens=600_000, kills=40, pause=2.0)


def workspace(root: Path, databases: Path, size: Size) -> Path:
    root.mkdir()
    study = make_workspace(root)
    text = study.read_text().partition("axes:")[0].replace("25_000", str(size.tokens))
    study.write_text(text + size.axes())
    shutil.copytree(databases, root / "runs")
    return root


def training(sweep: subprocess.Popen) -> list[int]:
    """Workers that have been at it long enough to have imported torch."""
    now = float(Path("/proc/uptime").read_text().split()[0])
    return [pid for pid in workers_of(sweep) if now - started(pid) > 1.0]


def started(pid: int) -> float:
    """Seconds after this machine's own start; infinity for a process that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return math.inf
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def kill_again_and_again(size: Size, log: Path) -> int:
    """Run the study to its end whatever dies; how many processes were killed."""
    dice = random.Random(size.kills)
    kills = 0
    with log.open("ab") as said:
        sweep = subprocess.Popen(RUN, stdout=said, stderr=said, start_new_session=True)
        try:
            while sweep.poll() is None or sweep.returncode == -signal.SIGKILL:
                if sweep.returncode is not None:
                    sweep = subprocess.Popen(RUN, stdout=said, stderr=said, start_new_session=True)
                if kills < size.kills and (victims := training(sweep)):
                    controller = kills % CONTROLLERS == CONTROLLERS - 1
                    os.kill(sweep.pid if controller else dice.choice(victims), signal.SIGKILL)
                    kills += 1
                    if controller:
                        sweep.wait()
                        wait_until(lambda: not alive(victims))
                    time.sleep(2 * size.pause * dice.random())
                time.sleep(0.05)
        finally:
            if sweep.poll() is None:
                os.killpg(sweep.pid, signal.SIGKILL)
    assert sweep.returncode == 0, log.read_text()
    return kills


def trained_saes() -> dict[str, bytes]:
    """Of each cell whose SAE is kept, its weights."""
    return {path.parts[-3]: path.read_bytes() for path in Path("runs/cells").glob("*/sae/sae.safetensors")}


@pytest.mark.parametrize("size", [SHORT, pytest.param(LONG, marks=pytest.mark.chaos)], ids=["short", "long"])
def test_the_tables_are_those_of_an_undisturbed_run_bit_for_bit(size, tmp_path, databases, monkeypatch):
    monkeypatch.chdir(workspace(tmp_path / "undisturbed", databases, size))
    main(["run", "studies/small.yaml", "--workers", "2"])
    undisturbed = {name: Path("results/small", name).read_bytes() for name in FILES}
    undisturbed_saes = trained_saes()

    root = workspace(tmp_path / "disturbed", databases, size)
    monkeypatch.chdir(root)
    assert kill_again_and_again(size, tmp_path / "said") == size.kills
    assert {name: Path("results/small", name).read_bytes() for name in FILES} == undisturbed
    rows = records(root, "cells.jsonl")
    assert len(rows) == size.cells
    assert {row["state"] for row in rows} == {"complete"}
    assert_each_cell_once(root, [row["cell"] for row in rows], points(root))
    assert not list(Path("runs").rglob("checkpoints/*.safetensors"))
    assert trained_saes().keys() == {row["cell"] for row in rows if row["sae"]}
    assert trained_saes() == undisturbed_saes
    assert "Traceback" not in (tmp_path / "said").read_text()
