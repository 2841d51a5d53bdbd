"""Memory that is too small for a cell, for real: its neighbour goes on, and it ends in smaller micro-batches."""

import json
import os
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.cli import main
from tests.conftest import make_workspace

GROUPS = Path("/sys/fs/cgroup/memory")
MIB = 2**20
# 384 MiB of pre-activations, of which what selects and what the penalty makes of them is as much again, twice over
LARGE_BATCH, LATENTS = 8192, 12288
RECIPE = f"""question: Is there room?
source: sources/random.yaml
recipe: {{latents: {LATENTS}, k: 4, penalty: 0.01, penalty_on: relu, tokens: 16_384, dead_window: 1_024}}
axes:
  batch: [512, {LARGE_BATCH}]
seeds: [0]
"""
ARGUMENTS = ["run", "studies/small.yaml", "--workers", "1", "--threads", "1"]


def results() -> dict[int, dict]:
    """By batch size, but for the seconds."""
    found = {}
    for folder in Path("runs/cells").iterdir():
        batch = json.loads((folder / "recipe.json").read_text())["recipe"]["batch"]
        found[batch] = {**json.loads((folder / "result.json").read_text()), "seconds": None}
    return found


@contextmanager
def memory_limit() -> Iterator[Callable[[], None]]:
    """What a process calls to have too little memory, with those that it starts; the kernel kills for it."""
    group = GROUPS / f"harness-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
    except OSError:
        yield address_limit()
        return
    (group / "memory.limit_in_bytes").write_text(str(1000 * MIB))
    yield lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None
    group.rmdir()


def address_limit() -> Callable[[], None]:
    """Where nobody may make a control group: what libraries take of the address space, and a little more."""
    script = "import torch, harness.workers.worker; torch.rand(512, 512) @ torch.rand(512, 512)"
    script += "\nprint(open('/proc/self/status').read())"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    limit = int(said.partition("VmPeak:")[2].split()[0]) * 1024 + 600 * MIB
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@pytest.mark.chaos
def test_a_cell_that_is_too_large_ends_in_micro_batches(tmp_path, databases, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_workspace(tmp_path).write_text(RECIPE)
    shutil.copytree(databases, "runs")
    main(ARGUMENTS)
    expected = results()
    shutil.rmtree("runs/cells")

    command = [sys.executable, "-m", "harness", *ARGUMENTS]
    with memory_limit() as below:
        done = subprocess.run(command, preexec_fn=below, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    found = results()
    assert found[512] == expected[512]
    assert found[LARGE_BATCH]["state"] == "complete"
    assert expected[LARGE_BATCH]["micro_batches"] == 1
    assert found[LARGE_BATCH]["micro_batches"] in (2, 4, 8)
    assert found[LARGE_BATCH]["score"] == pytest.approx(expected[LARGE_BATCH]["score"], rel=1e-3)
    rows = map(json.loads, Path("results/small/cells.jsonl").read_text().splitlines())
    assert [row.get("micro_batches") for row in rows] == [None, found[LARGE_BATCH]["micro_batches"]]
