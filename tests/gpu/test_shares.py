"""Workers on one GPU: one whose cell needs more than its share ends it alone, and trains it in micro-batches."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.engines.free_memory import Share
from tests.conftest import make_workspace

MIB = 2**20
LARGE_BATCH, LATENTS = 8192, 12_288  # 384 MiB of pre-activations, and as much for the penalty's gradient
LIMIT = 640 * MIB  # with 64 MiB of cuBLAS's workspaces, and what the allocator rounds up
RECIPE = f"""question: Is there room?
source: sources/random.yaml
recipe: {{latents: {LATENTS}, k: 4, penalty: 0.01, penalty_on: relu, tokens: 65_536, dead_window: 1_024}}
axes:
  batch: [512, {LARGE_BATCH}]
seeds: [0]
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_cell_that_needs_more_than_its_share_ends_in_micro_batches(tmp_path, databases, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_workspace(tmp_path).write_text(RECIPE)
    shutil.copytree(databases, "runs")
    # as if the memory model were wrong: both are let on, and the worker's limit is what stops the large one
    monkeypatch.setattr("harness.sweep.controller.shares", lambda *_: [Share(10**20, LIMIT)] * 2)
    main(["run", "studies/small.yaml", "--workers", "2", "--threads", "1", "--device", "cuda"])
    rows = [json.loads(line) for line in Path("results/small/cells.jsonl").read_text().splitlines()]
    assert [row["state"] for row in rows] == ["complete", "complete"]
    small, large = (row.get("micro_batches") for row in rows)
    assert small is None
    assert large in (2, 4, 8)
