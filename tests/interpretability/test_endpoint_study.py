"""A study whose latents are judged by a language model behind an endpoint, from its plan to its figures."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from harness.cli import main
from tests.activations.pretrained_models import WORDS, save_model
from tests.interpretability.judged import wait_until_kept
from tests.interpretability.server import Server

SOURCE = """
kind: pretrained
model: {name: models/llama}
text: {files: text/*.parquet, column: content, held_out: {share: 0.3}}
activations: {hook: model.layers.1, context: 16, tokens: 2_000, held_out_tokens: 1_200, window: 1_024}
"""
STUDY = """
question: Does a language model find meaning in latents?
source: sources/mine.yaml
recipe: {latents: 32, k: 3, tokens: 2_000, batch: 256, dead_window: 512, lr: 3e-3}
axes: {layers: [none]}
seeds: [0, 1]
interpretability:
  latents: 12
  window: 16
  windows: 10
  to_explain: 20
  draws: 1
  judge:
    kind: endpoint
    url: URL
    model: small
    per_explanation: 8
    prices: {input: 1, output: 10}
    budget: {calls: CALLS}
"""
PLANNED = re.compile(
    r"judge small at \S+: (about|at most) ([\d,]+) calls, ([\d,]+) tokens read and ([\d,]+) written"
)


def workspace_at(root: Path, databases: Path) -> Path:
    """With a small model that is trained on nothing, and text in which words follow each other at random."""
    (root / "studies/sources").mkdir(parents=True)
    (root / "studies/sources/mine.yaml").write_text(SOURCE)
    save_model("llama", root / "models/llama")
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, length)) for length in generator.integers(5, 60, 300)]
    (root / "text").mkdir()
    pl.DataFrame({"content": texts}).write_parquet(root / "text/some.parquet")
    shutil.copytree(databases, root / "runs")
    return root


def ask_of(root: Path, server: Server, calls: int) -> None:
    study = STUDY.replace("URL", server.url).replace("CALLS", str(calls))
    (root / "studies/mine.yaml").write_text(study)


def figures(root: Path) -> list[dict]:
    cells = [json.loads(line) for line in (root / "results/mine/cells.jsonl").read_text().splitlines()]
    return [cell["heldout"] for cell in cells]


def planned(said: str) -> tuple[str, float, float, float]:
    word, *numbers = PLANNED.search(" ".join(said.split())).groups()
    return (word, *(float(number.replace(",", "")) for number in numbers))


def test_a_key_that_is_missing_is_missed_before_anything_is_trained(tmp_path, databases, monkeypatch, capsys):
    root = workspace_at(tmp_path, databases)
    monkeypatch.chdir(root)
    study = (
        (STUDY + "    key_variable: NO_SUCH_KEY\n").replace("URL", "http://127.0.0.1:9/v1").replace("CALLS", "1")
    )
    (root / "studies/mine.yaml").write_text(study)
    with pytest.raises(SystemExit, match="2"):
        main(["run", "studies/mine.yaml", "--workers", "1"])
    assert "key_variable: expected a key for http://127.0.0.1:9/v1" in " ".join(capsys.readouterr().err.split())
    assert not list((root / "runs").glob("cells/*"))


@pytest.mark.chaos
def test_the_bill_is_as_planned_and_a_budget_only_interrupts(tmp_path, databases, monkeypatch, capsys):
    root = workspace_at(tmp_path, databases)
    monkeypatch.chdir(root)
    with Server() as server:
        ask_of(root, server, 40)
        main(["plan", "studies/mine.yaml"])
        assert planned(capsys.readouterr().out)[0] == "at most"
        with pytest.raises(SystemExit, match="2"):
            main(["run", "studies/mine.yaml", "--workers", "1"])
        assert "budget.calls: 40 calls of 40 are spent, and the next call would" in capsys.readouterr().err
        before = (len(server.answered), server.read, server.written)
        assert before[0] == 40
        ask_of(root, server, 100_000)
        main(["plan", "studies/mine.yaml", "--measure"])
        word, *expected = planned(capsys.readouterr().out)
        assert word == "about"
        main(["run", "studies/mine.yaml", "--workers", "1"])
        came_to = np.subtract((len(server.answered), server.read, server.written), before)
        assert len(set(server.answered)) == len(server.answered)
        assert np.abs(came_to / expected - 1).max() < 0.1
        assert all(0 <= one["detection"] <= 100 for one in figures(root))
        main(["plan", "studies/mine.yaml", "--measure"])
        assert planned(capsys.readouterr().out)[1] == 0
        main(["run", "studies/mine.yaml", "--workers", "1"])
        assert len(server.answered) == before[0] + came_to[0]


@pytest.mark.chaos
def test_killed_in_the_middle_the_scores_are_the_same_and_no_call_is_answered_twice(
    tmp_path, databases, monkeypatch
):
    whole = workspace_at(tmp_path / "whole", databases)
    with Server() as server:
        ask_of(whole, server, 100_000)
        monkeypatch.chdir(whole)
        main(["run", "studies/mine.yaml", "--workers", "1"])
        calls = len(server.answered)
    root = workspace_at(tmp_path / "killed", databases)
    with Server(hold_after=calls // 2) as server:
        ask_of(root, server, 100_000)
        command = [sys.executable, "-m", "harness", "run", "studies/mine.yaml", "--workers", "1"]
        process = subprocess.Popen(command, cwd=root)
        assert server.holding.wait(120)
        wait_until_kept(root / "runs/mine.latents/calls.db", server.answered)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        server.hold_after = None
        monkeypatch.chdir(root)
        main(["run", "studies/mine.yaml", "--workers", "1"])
        assert len(server.answered) == calls
        assert len(set(server.answered)) == calls
    assert figures(root) == figures(whole)
