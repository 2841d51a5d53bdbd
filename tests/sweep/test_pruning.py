"""Pruning on real sweeps: a pruned cell stays pruned for its study, and for nobody else."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from harness.cli import main
from tests.conftest import make_workspace
from tests.sweep.recorded import mlflow_runs, trials
from tests.sweep.test_sweep import FILES, alive, wait_until, workers_of

RULE = "pruning: {threshold: {fvu: 0.5, warmup: 0.1}}\n"


def rows(root, study: str = "small") -> list[dict]:
    return [json.loads(line) for line in (root / "results" / study / "cells.jsonl").read_text().splitlines()]


def workspace(root: Path, databases: Path) -> Path:
    """Four cells of some seconds, two of which hardly learn."""
    study = make_workspace(root)
    shutil.copytree(databases, root / "runs")
    text = study.read_text().replace("tokens: 25_000", "tokens: 250_000")
    study.write_text(text[: text.index("axes:")] + "axes:\n  lr: [1e-9, 4e-3]\nseeds: [0, 1]\n" + RULE)
    return study


@pytest.mark.chaos
def test_a_pruned_cell_is_censored_and_stays_so_until_nobody_prunes(tmp_path, databases, monkeypatch, capsys):
    """The bound stops the cells that hardly learn; lost databases and a second run change nothing."""
    root = tmp_path
    study = workspace(root, databases)
    text = study.read_text().removesuffix(RULE)
    monkeypatch.chdir(root)
    main(["run", "studies/small.yaml", "--workers", "1"])
    first = rows(root)
    pruned = {row["cell"] for row in first if row["state"] == "pruned"}
    assert {row["arm"]["lr"] for row in first if row["cell"] in pruned} == {1e-9}
    assert len(pruned) == 2
    assert all(row["heldout"] is None and row["last"]["fvu"] > 0.5 for row in first if row["cell"] in pruned)
    assert all(0 < row["tokens"] < 250_000 for row in first if row["cell"] in pruned)
    states = {t.user_attrs["cell"]: t.state for t in trials(root)}
    assert {cell for cell, state in states.items() if state == optuna.trial.TrialState.PRUNED} == pruned
    runs, _ = mlflow_runs(root, "small")
    assert {run.data.tags["cell"] for run in runs if run.data.tags["state"] == "pruned"} == pruned

    for name in ("optuna.db", "mlflow.db"):
        shutil.copy(databases / name, root / "runs" / name)
    main(["run", "studies/small.yaml", "--workers", "1"])
    assert rows(root) == first
    assert not any((root / "runs" / "cells" / cell / "result.json").exists() for cell in pruned)
    capsys.readouterr()
    main(["status", "studies/small.yaml"])
    assert "4 cells: 2 complete · 2 pruned" in capsys.readouterr().out
    main(["report", "studies/small.yaml", "--step", "tables"])
    main(["report", "studies/small.yaml", "--step", "summary"])
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 cells were pruned" in said
    assert "2 of 2 seeds pruned, no mean" in said

    study.write_text(text)  # nobody prunes: they go on from their checkpoints
    main(["run", "studies/small.yaml", "--workers", "1"])
    assert [row["state"] for row in rows(root)] == ["complete"] * 4
    curve = (root / "runs" / "cells" / min(pruned) / "curve.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in curve]
    assert steps == sorted(set(steps))
    assert len(steps) == 40


@pytest.mark.chaos
def test_two_runs_prune_the_same_cells_at_the_same_points(tmp_path, databases, monkeypatch):
    """One trains all cells in one worker, the other each by itself in one of three."""
    levels = (
        "axes: {lr: [1e-3, 4e-3, 1e-9, 2e-3, 1e-8]}\nseeds: [0]\npruning: {median: {startup: 2, warmup: 0.1}}\n"
    )
    found = []
    for options in (["--workers", "1"], ["--workers", "3", "--cohort", "1"]):
        root = tmp_path / options[1]
        study = make_workspace(root)
        study.write_text(study.read_text().partition("axes:")[0] + levels)
        shutil.copytree(databases, root / "runs")
        monkeypatch.chdir(root)
        main(["run", "studies/small.yaml", *options])
        found.append([(root / "results/small" / name).read_bytes() for name in FILES])
        points = {row["cell"]: row["tokens"] for row in rows(root) if row["state"] == "pruned"}
        assert points
        steps = {t.user_attrs["cell"]: t.last_step for t in trials(root) if t.user_attrs["state"] == "pruned"}
        assert {cell: step * 128 for cell, step in steps.items()} == points
    assert found[0] == found[1]


@pytest.mark.chaos
def test_a_controller_that_is_killed_while_it_prunes_changes_no_table(tmp_path, databases, monkeypatch):
    """Also where it died between a point of the curve and the verdict."""
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, root):
        workspace(folder, databases)
    arguments = ["run", "studies/small.yaml", "--workers", "1", "--checkpoint-seconds", "0.1"]
    monkeypatch.chdir(undisturbed)
    main(arguments)
    assert sorted(row["state"] for row in rows(undisturbed)) == ["complete"] * 2 + ["pruned"] * 2

    monkeypatch.chdir(root)
    sweep = subprocess.Popen([sys.executable, "-m", "harness", *arguments], start_new_session=True)
    wait_until(lambda: list(root.glob("runs/cells/*/pruned-*.json")))
    workers = workers_of(sweep)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    wait_until(lambda: not alive(workers))
    assert optuna.trial.TrialState.RUNNING in {trial.state for trial in trials(root)}
    for verdict in root.glob("runs/cells/*/pruned-*.json"):
        verdict.unlink()  # as if it had died a moment before, when Optuna had the point already
    main(arguments)
    for name in FILES:
        assert (root / "results/small" / name).read_bytes() == (undisturbed / "results/small" / name).read_bytes()
