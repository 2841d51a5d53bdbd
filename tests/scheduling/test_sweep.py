"""Sweeps on real processes and databases: every cell once, whatever happens."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from harness.activations.store import ActivationStore
from harness.cli import main
from harness.scheduling.cell_folder import exclusive
from harness.scheduling.ledger import Ledger
from harness.scheduling.workspace import Workspace, code_fingerprint
from harness.study.grid import cells
from harness.study.spec import load_study
from tests.conftest import make_workspace
from tests.scheduling.ledgers import assert_each_cell_once, mlflow_runs, trials

FILES = ("study.json", "cells.jsonl", "curves.jsonl")
RUN = [
    sys.executable,
    "-m",
    "harness",
    "run",
    "studies/small.yaml",
    "--workers",
    "2",
    "--checkpoint-seconds",
    "0.1",
]


def records(root: Path, name: str, study: str = "small") -> list[dict]:
    return [json.loads(line) for line in (root / "results" / study / name).read_text().splitlines()]


def points(root: Path) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for point in records(root, "curves.jsonl"):
        curves.setdefault(point["cell"], []).append((point["step"], point["heldout_fvu"]))
    return curves


def workers_of(controller: subprocess.Popen) -> list[int]:
    """Process ids of the live children of a controller, from /proc."""
    children = Path(f"/proc/{controller.pid}/task/{controller.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and _state(pid) != "Z"]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def training_has_begun(root: Path) -> bool:
    return any((root / "runs" / "cells").glob("*/checkpoints/*.safetensors"))


def test_an_undisturbed_sweep_has_every_cell_once(undisturbed):
    rows = records(undisturbed, "cells.jsonl")
    assert len(rows) == len({row["cell"] for row in rows}) == 8
    assert {row["state"] for row in rows} == {"complete"}
    assert_each_cell_once(undisturbed, [row["cell"] for row in rows], points(undisturbed))
    arms = {(row["arm"]["layers"], row["tuned"]["lr"], row["seed"]) for row in rows}
    assert len(arms) == 8
    (trial, *_) = trials(undisturbed)
    assert set(trial.params) == {"layers", "lr"}
    runs, _ = mlflow_runs(undisturbed)
    assert all(run.data.params["k"] == "4" for run in runs)
    assert all(run.data.metrics["final/fvu"] > 0 for run in runs)


def test_a_sweep_that_is_killed_everywhere_ends_like_an_undisturbed_one(undisturbed, tmp_path):
    make_workspace(tmp_path)
    dice = random.Random(0)

    # Workers die, again and again; then Ctrl-C.
    sweep = subprocess.Popen(RUN, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: training_has_begun(tmp_path))
    for _ in range(2):
        os.kill(dice.choice(workers_of(sweep)), signal.SIGKILL)
        time.sleep(0.3)
        assert sweep.poll() is None
    workers = workers_of(sweep)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(30) == 130
    assert b"Traceback" not in sweep.stderr.read()
    assert not alive(workers)

    # The controller itself dies; its workers notice and end.
    sweep = subprocess.Popen(RUN, cwd=tmp_path, start_new_session=True)
    wait_until(lambda: workers_of(sweep))
    time.sleep(2)
    workers = workers_of(sweep)
    sweep.kill()
    sweep.wait()
    wait_until(lambda: not alive(workers))

    finished = subprocess.run(RUN, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    for name in FILES:
        expected = (undisturbed / "results" / "small" / name).read_bytes()
        assert (tmp_path / "results" / "small" / name).read_bytes() == expected, name
    assert_each_cell_once(tmp_path, [c["cell"] for c in records(tmp_path, "cells.jsonl")], points(tmp_path))
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_a_second_controller_is_told_who_runs_the_study(small_study, capsys):
    lock = Path("runs/small.lock")
    with exclusive(lock) as mine:
        assert mine
        lock.write_text("process 4711 on elsewhere since yesterday")
        with pytest.raises(SystemExit) as stop:
            main(["run", str(small_study)])
        assert stop.value.code == 2
        assert "already being run by process 4711 on elsewhere since yesterday" in capsys.readouterr().err
        main(["status", str(small_study)])
        assert "run by process 4711" in capsys.readouterr().out
    assert not list(Path("runs").glob("*.db"))


def test_an_edited_study_trains_only_what_is_new(undisturbed, tmp_path, monkeypatch, capsys):
    """A new seed, a new level of an axis, one taken away; and another study takes over what is there."""
    root = tmp_path / "copy"
    shutil.copytree(undisturbed, root)
    monkeypatch.chdir(root)
    study = root / "studies" / "small.yaml"
    before = {p: p.stat().st_mtime_ns for p in (root / "runs" / "cells").glob("*/result.json")}
    study.write_text(
        study.read_text()
        .replace("[none, sparse 2]", "[none, dense_encoder 1]")
        .replace("[1e-3, 4e-3]", "[4e-3]")
        .replace("seeds: [0, 1]", "seeds: [1, 2]")
    )
    main(["plan", "studies/small.yaml"])
    assert "4 cells; 1 done, 3 to run" in re.sub(r"\s+", " ", capsys.readouterr().out)
    main(["run", "studies/small.yaml"])
    after = {p: p.stat().st_mtime_ns for p in (root / "runs" / "cells").glob("*/result.json")}
    assert len(after) == len(before) + 3
    assert all(after[path] == changed for path, changed in before.items())
    rows = records(root, "cells.jsonl")
    assert {(row["arm"]["layers"], row["seed"]) for row in rows} == {
        (layers, seed) for layers in ("none", "dense_encoder 1") for seed in (1, 2)
    }
    finished = [t.user_attrs["cell"] for t in trials(root) if t.state == optuna.trial.TrialState.COMPLETE]
    assert sorted(finished) == sorted(row["cell"] for row in rows)

    (root / "studies" / "other.yaml").write_text(study.read_text())
    main(["run", "studies/other.yaml"])
    assert {p: p.stat().st_mtime_ns for p in (root / "runs" / "cells").glob("*/result.json")} == after
    assert records(root, "curves.jsonl", "other") == records(root, "curves.jsonl")
    runs, _ = mlflow_runs(root, "other")
    assert len(runs) == 4


def test_cells_that_another_study_finishes_meanwhile_are_taken_over(undisturbed, tmp_path, monkeypatch):
    """Their trials were waiting already when the results came."""
    shutil.copytree(undisturbed, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    Path("studies/third.yaml").write_text(Path("studies/small.yaml").read_text())
    study = load_study(Path("studies/third.yaml"))
    store = ActivationStore.open(Path("data/random/activations"))
    waiting = cells(study, store.fingerprint, code_fingerprint())
    ledger = Ledger(Workspace(Path()).storage, study, waiting)
    assert [ledger.add(cell, None, []) for cell in waiting] == [False] * 8
    main(["run", "studies/third.yaml"])
    states = [t.state for t in trials(Path(), "third")]
    assert states == [optuna.trial.TrialState.COMPLETE] * 8
    assert records(Path(), "curves.jsonl", "third") == records(Path(), "curves.jsonl")


def test_failures_are_data_and_are_tried_again(small_study, capsys):
    text = small_study.read_text()
    small_study.write_text(
        text.replace("[none, sparse 2]", "[none]")
        .replace("[1e-3, 4e-3]", "[1e-3, 1e6]")
        .replace("[0, 1]", "[0]")
        .replace("tokens: 50_000", "tokens: 8_000\n  gradient_clip: 1e9\n  optimizer: muon")
    )
    arguments = ["run", str(small_study), "--checkpoint-seconds", "0"]
    main(["plan", str(small_study)])
    obstacle = Path("runs/cells") / _cell(small_study, lr=1e-3) / "checkpoints"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("in the way of a folder")
    main(arguments)
    states = {c["tuned"]["lr"]: (c["state"], c["reason"]) for c in records(Path(), "cells.jsonl")}
    assert states[1e-3][0] == "failed"
    assert "FileExistsError" in states[1e-3][1]
    assert states[1e6][0] == "diverged"
    assert "training FVU" in states[1e6][1]
    assert {t.state for t in trials(Path())} == {optuna.trial.TrialState.FAIL}
    runs, _ = mlflow_runs(Path())
    assert {run.data.tags["state"] for run in runs} == {"failed", "diverged"}

    capsys.readouterr()
    main(["status", str(small_study)])
    shown = capsys.readouterr().out
    assert "2 cells: 1 diverged · 1 failed" in shown
    assert "FileExistsError" in shown
    assert "Traceback" in (obstacle.parent / "log.txt").read_text()

    obstacle.unlink()
    main(arguments)
    states = {c["tuned"]["lr"]: c["state"] for c in records(Path(), "cells.jsonl")}
    assert states == {1e-3: "complete", 1e6: "diverged"}


def _cell(study: Path, lr: float) -> str:
    store = ActivationStore.open(Path("data/random/activations"))
    (cell,) = [c for c in cells(load_study(study), store.fingerprint, code_fingerprint()) if c.recipe.lr == lr]
    return cell.id


def test_a_store_of_another_hook_or_model_is_refused(small_study, capsys):
    source = Path("studies/sources/random.yaml")
    source.write_text(source.read_text().replace("transformer.h.0", "transformer.h.1"))
    with pytest.raises(SystemExit) as stop:
        main(["run", str(small_study)])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert (
        "hook: expected 'transformer.h.1', as studies/sources/random.yaml says, got 'transformer.h.0'" in message
    )
    assert not Path("runs").exists()


def test_results_of_another_study_are_not_overwritten(small_study, capsys):
    results = Path("results/small")
    results.mkdir(parents=True)
    (results / "study.json").write_text('{"file": "elsewhere/small.yaml"}')
    for command in ("run", "report"):
        with pytest.raises(SystemExit) as stop:
            main([command, str(small_study)])
        assert stop.value.code == 2
        assert "these are the results of elsewhere/small.yaml; expected those of" in capsys.readouterr().err
    assert [p.name for p in results.iterdir()] == ["study.json"]
    assert not Path("runs").exists()
