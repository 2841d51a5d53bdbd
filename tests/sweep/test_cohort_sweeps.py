"""Sweeps whose workers train several cells each: the same results, whatever happens to a worker or a cell."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from harness.cli import main
from harness.commands.sweeping import CELLS_FAILED
from harness.engines.free_memory import Share
from tests.conftest import make_workspace
from tests.sweep.recorded import assert_each_cell_once, mlflow_runs, trials
from tests.sweep.test_sweep import FILES, points, records, wait_until, workers_of

LARGE = 10**13  # latents: their weights are more than a process can have addresses for


def assert_same_results(ours: Path, theirs: Path) -> None:
    for name in FILES:
        expected = (theirs / "results" / "small" / name).read_bytes()
        assert (ours / "results" / "small" / name).read_bytes() == expected, name


def exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code


def test_cells_come_out_the_same_alone_and_in_cohorts(undisturbed, small_study, databases):
    """The undisturbed sweep has one worker, and so cohorts of all cells of a seed."""
    shutil.copytree(databases, "runs")
    main(["run", str(small_study), "--workers", "1", "--cohort", "1"])
    assert_same_results(Path(), undisturbed)


def retries(root: Path) -> tuple[int, int]:
    """Of all cells, as Optuna and as MLflow have them."""
    runs, _ = mlflow_runs(root)
    told = sum(int(run.data.tags.get("retries", 0)) for run in runs)
    return sum(trial.user_attrs.get("retries", 0) for trial in trials(root)), told


@pytest.mark.chaos
def test_all_cells_of_a_killed_worker_go_on_to_the_same_results(undisturbed, databases, tmp_path, monkeypatch):
    make_workspace(tmp_path)
    shutil.copytree(databases, tmp_path / "runs")
    command = ["run", "studies/small.yaml", "--workers", "1", "--cohort", "4", "--checkpoint-seconds", "0.05"]
    sweep = subprocess.Popen([sys.executable, "-m", "harness", *command], cwd=tmp_path)

    def in_training() -> set[str]:
        return {path.parts[-3] for path in tmp_path.glob("runs/cells/*/checkpoints/*.safetensors")}

    wait_until(lambda: len(in_training()) == 4)
    (worker,) = workers_of(sweep)
    os.kill(worker, signal.SIGKILL)
    assert sweep.wait(120) == 0
    assert_same_results(tmp_path, undisturbed)
    assert_each_cell_once(tmp_path, [c["cell"] for c in records(tmp_path, "cells.jsonl")], points(tmp_path))
    assert retries(tmp_path) == (4, 4)
    for name in ("optuna.db", "mlflow.db"):  # the next controller tells others: what it knows is on disk
        shutil.copy(databases / name, tmp_path / "runs" / name)
    (tmp_path / "runs/small.finished").unlink()
    monkeypatch.chdir(tmp_path)
    main(command)
    assert retries(tmp_path) == (4, 4)


@pytest.mark.chaos
def test_a_cell_that_is_too_large_fails_alone_and_harms_no_other(small_study, databases, monkeypatch):
    shutil.copytree(databases, "runs")
    text = small_study.read_text().replace("  latents: 64\n", "  lr: 1e-3\n").replace("25_000", "8_000")
    small_study.write_text(text[: text.index("axes:")] + f"axes: {{latents: [64, {LARGE}, 96]}}\nseeds: [0]\n")
    arguments = ["run", str(small_study), "--workers", "1"]
    with (
        monkeypatch.context() as patch
    ):  # as if the memory model were wrong: the large cell is in a cohort at first
        patch.setattr("harness.sweep.controller.shares", lambda *_: [Share(10**20)])
        assert exit_code(arguments) == CELLS_FAILED
    small, large, other = records(Path(), "cells.jsonl")
    assert (small["state"], large["state"], other["state"]) == ("complete", "failed", "complete")
    assert large["reason"] == "out of memory, even alone and in 8 micro-batches"
    assert [trial.state for trial in trials(Path())].count(optuna.trial.TrialState.FAIL) == 1
    runs, _ = mlflow_runs(Path())
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED", "FINISHED"]

    for row in (small, other):
        shutil.rmtree(Path("runs/cells") / row["cell"])
    assert (
        exit_code(arguments) == CELLS_FAILED
    )  # the model is right, and keeps the large cell by itself from the beginning
    assert records(Path(), "cells.jsonl") == [small, large, other]
