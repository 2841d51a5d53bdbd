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
from harness.commands.sweeping import CELLS_FAILED
from harness.locks import exclusive
from harness.records.optuna_trials import OptunaTrials
from harness.study.cells import CellSpec
from harness.study.known import known
from harness.study.spec import load_study
from harness.workspace import Workspace
from tests.conftest import make_workspace
from tests.sweep.recorded import assert_each_cell_once, assert_nothing_runs, mlflow_runs, phases, trials

FILES = ("study.json", "cells.jsonl", "curves.jsonl")
ARGUMENTS = ["run", "studies/small.yaml", "--workers", "2", "--checkpoint-seconds", "0.05"]
RUN = [sys.executable, "-m", "harness", *ARGUMENTS]
TUNING, REPORTED = (2,), (0, 1)  # seeds of the small study


def records(root: Path, name: str, study: str = "small") -> list[dict]:
    return [json.loads(line) for line in (root / "results" / study / name).read_text().splitlines()]


def points(root: Path) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for point in records(root, "curves.jsonl"):
        if "heldout_fvu" in point:
            curves.setdefault(point["cell"], []).append((point["step"], point["heldout_fvu"]))
    return curves


def workers_of(controller: subprocess.Popen) -> list[int]:
    """Process ids of the live children of a controller, from /proc."""
    children = Path(f"/proc/{controller.pid}/task/{controller.pid}/children")
    try:
        return [int(pid) for pid in children.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if _state(pid) not in ("gone", "Z")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it may go between the opening and the reading
        return "gone"


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def seeds_begun(root: Path, having: str = "recipe.json") -> set[int]:
    """Seeds of the cells that have such a file."""
    folders = [folder for folder in root.glob("runs/cells/*") if any(folder.glob(having))]
    return {json.loads((folder / "recipe.json").read_text())["recipe"]["seed"] for folder in folders}


def in_training(root: Path, seeds: tuple[int, ...]) -> bool:
    """Whether a cell with one of these seeds has a checkpoint, and thus no result yet."""
    return bool(seeds_begun(root, "checkpoints/*.safetensors") & set(seeds))


def test_an_undisturbed_sweep_has_every_cell_once(undisturbed):
    rows = records(undisturbed, "cells.jsonl")
    assert len(rows) == len({row["cell"] for row in rows}) == 8
    assert {row["state"] for row in rows} == {"complete"}
    assert_each_cell_once(undisturbed, [row["cell"] for row in rows], points(undisturbed))
    (trial, *_) = trials(undisturbed)
    assert set(trial.params) == {"layers", "lr"}
    runs, _ = mlflow_runs(undisturbed)
    assert all(run.data.params["k"] == "4" for run in runs)
    assert all(run.data.metrics["final/fvu"] > 0 for run in runs)


def test_the_best_setting_at_the_tuning_seeds_alone_is_reported(undisturbed):
    study = json.loads((undisturbed / "results/small/study.json").read_text())
    assert (study["heldout_tokens"], study["curve_tokens"]) == (1024, 256)
    assert (study["seeds"], study["tuning_seeds"], study["cells"]) == ([0, 1], [2], 8)
    rows = records(undisturbed, "cells.jsonl")
    tuning, reported = rows[:4], rows[4:]
    assert [(r["arm"]["layers"], r["tuned"]["lr"], r["seed"]) for r in tuning] == [
        (layers, lr, 2) for layers in ("none", "sparse 2") for lr in (1e-3, 4e-3)
    ]
    best = {
        layers: min((r for r in tuning if r["arm"]["layers"] == layers), key=lambda r: r["score"])
        for layers in ("none", "sparse 2")
    }
    assert [(r["arm"]["layers"], r["tuned"], r["seed"]) for r in reported] == [
        (layers, best[layers]["tuned"], seed) for layers in best for seed in (0, 1)
    ]
    expected = {r["cell"]: ("tuning",) * 2 for r in tuning} | {r["cell"]: ("reported",) * 2 for r in reported}
    assert phases(undisturbed) == expected


@pytest.mark.chaos
def test_a_sweep_that_is_killed_everywhere_ends_like_an_undisturbed_one(
    undisturbed, databases, tmp_path, monkeypatch
):
    make_workspace(tmp_path)
    shutil.copytree(databases, tmp_path / "runs")
    dice = random.Random(0)

    # In the first phase workers die, again and again; then Ctrl-C.
    sweep = subprocess.Popen(RUN, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: in_training(tmp_path, TUNING))
    for _ in range(2):
        os.kill(dice.choice(workers_of(sweep)), signal.SIGKILL)
        time.sleep(0.3)
        assert sweep.poll() is None
    workers = workers_of(sweep)
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait(30) == 130
    assert b"Traceback" not in sweep.stderr.read()
    assert not alive(workers)
    assert seeds_begun(tmp_path) == set(TUNING)
    assert_nothing_runs(tmp_path)

    # In the second one the controller itself dies; its workers notice and end.
    sweep = subprocess.Popen(RUN, cwd=tmp_path, start_new_session=True)
    wait_until(lambda: in_training(tmp_path, REPORTED))
    workers = workers_of(sweep)
    sweep.kill()
    sweep.wait()
    wait_until(lambda: not alive(workers))
    assert not (tmp_path / "results").exists()

    monkeypatch.chdir(tmp_path)
    main(ARGUMENTS)
    for name in FILES:
        expected = (undisturbed / "results" / "small" / name).read_bytes()
        assert (tmp_path / "results" / "small" / name).read_bytes() == expected, name
    assert_each_cell_once(tmp_path, [c["cell"] for c in records(tmp_path, "cells.jsonl")], points(tmp_path))
    assert phases(tmp_path) == phases(undisturbed)
    assert not list((tmp_path / "runs").rglob("checkpoints/*.safetensors"))


def test_a_second_controller_is_told_who_runs_the_study(small_study, capsys):
    lock = Path("runs/small.lock")
    with exclusive(lock) as mine:
        assert mine
        lock.write_text("process 4711 on elsewhere since yesterday")
        with pytest.raises(SystemExit) as stop:
            main(["run", str(small_study)])
        assert stop.value.code == 2
        said = capsys.readouterr().err.removesuffix("\n")
        assert "already being run by process 4711 on elsewhere since yesterday; to watch it: " in said
        assert said.endswith(f"harness status {small_study} --follow")
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
    main(["plan", "studies/small.yaml"])
    assert "since the last run" not in capsys.readouterr().out
    study.write_text(
        study.read_text()
        .replace("[none, sparse 2]", "[none, dense_encoder 1]")
        .replace("[1e-3, 4e-3]", "[4e-3]")
        .replace("seeds: [0, 1]\ntuning_seeds: [2]", "seeds: [1, 2]")
    )
    main(["plan", "studies/small.yaml"])
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "4 cells; 2 done, 2 to run" in said
    assert "study edited since the last run: + 3 cells (layers dense_encoder 1" in said
    assert "layers sparse 2" in said[said.index("study edited") :]
    assert "no longer asked for (their results are kept)" in said
    main(["run", "studies/small.yaml", "--workers", "1"])
    capsys.readouterr()
    main(["plan", "studies/small.yaml"])
    assert "since the last run" not in capsys.readouterr().out
    after = {p: p.stat().st_mtime_ns for p in (root / "runs" / "cells").glob("*/result.json")}
    assert len(after) == len(before) + 2
    assert all(after[path] == changed for path, changed in before.items())
    rows = records(root, "cells.jsonl")
    assert {(row["arm"]["layers"], row["seed"]) for row in rows} == {
        (layers, seed) for layers in ("none", "dense_encoder 1") for seed in (1, 2)
    }
    finished = [t.user_attrs["cell"] for t in trials(root) if t.state == optuna.trial.TrialState.COMPLETE]
    assert sorted(finished) == sorted(row["cell"] for row in rows)
    assert set(phases(root).values()) == {("reported", "reported")}  # also of what chose before

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
    waiting = known(study, store.fingerprint).cells
    optuna_trials = OptunaTrials(Workspace(Path()).storage, study)
    for cell in waiting:
        optuna_trials.add(cell, None, [])
    main(["run", "studies/third.yaml"])
    states = [t.state for t in trials(Path(), "third")]
    assert states == [optuna.trial.TrialState.COMPLETE] * 8
    assert records(Path(), "curves.jsonl", "third") == records(Path(), "curves.jsonl")


FRAGILE = """
axes:
  remedy:
    settings:
      none: {}
      stacked: {layers: sparse 2}
  lr:
    tune: true
    when: {remedy: {none: [1e6, 2e6], stacked: [1e-3, 4e-3]}}
seeds: [0]
tuning_seeds: [1]
"""


def test_a_finished_study_opens_no_database_until_there_is_something_to_say(undisturbed, tmp_path, monkeypatch):
    shutil.copytree(undisturbed, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    main(ARGUMENTS)  # these are other files than those that were told
    Path("results/small/cells.jsonl").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("harness.sweep.study_recorder.StudyRecorder.__init__", lambda *_: pytest.fail("opened"))
        main(ARGUMENTS)
    assert records(Path(), "cells.jsonl") == records(undisturbed, "cells.jsonl")
    study = Path("studies/small.yaml")
    study.write_text(study.read_text().replace("Does one more layer help?", "Does it?"))
    Path("runs/optuna.db").unlink()
    main(ARGUMENTS)
    assert len(trials(Path())) == 8


def test_cells_whose_folders_are_gone_are_trained_again(undisturbed, tmp_path, monkeypatch):
    """Whatever Optuna and MLflow say: the folders are what is true."""
    shutil.copytree(undisturbed, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    gone = [row["cell"] for row in records(Path(), "cells.jsonl")][::4]
    for cell in gone:
        shutil.rmtree(Path("runs/cells") / cell)
    main(["run", "studies/small.yaml"])
    for name in FILES:
        assert (Path("results/small") / name).read_bytes() == (undisturbed / "results/small" / name).read_bytes()
    runs, _ = mlflow_runs(Path())
    assert {run.info.status for run in runs} == {"FINISHED"}
    complete = [t.user_attrs["cell"] for t in trials(Path()) if t.state == optuna.trial.TrialState.COMPLETE]
    assert sorted(complete) == sorted(row["cell"] for row in records(Path(), "cells.jsonl"))


def test_measuring_leaves_open_what_is_not_trained(undisturbed, databases, tmp_path, monkeypatch):
    """While a tuning cell is missing, it is not known which cells are reported: no record is set aside."""
    shutil.copytree(undisturbed, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    gone = next(row["cell"] for row in records(Path(), "cells.jsonl") if row["seed"] == 2)
    shutil.rmtree(Path("runs/cells") / gone)
    shutil.copy(databases / "mlflow.db", "runs")
    main(["evaluate", "studies/small.yaml", "--workers", "1"])
    assert optuna.get_all_study_names(Workspace(Path()).storage) == ["small"]
    states = {t.user_attrs["cell"]: t.state.name for t in trials(Path())}
    assert states.pop(gone) == "WAITING"
    assert set(states.values()) == {"COMPLETE"}
    runs, _ = mlflow_runs(Path())
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert gone not in {run.data.tags["cell"] for run in runs}


def test_failures_are_data_and_are_tried_again(small_study, databases, capsys):
    """A setting that is lost at the tuning seeds is not chosen, unless its arm has no other."""
    text = small_study.read_text().replace(
        "tokens: 25_000", "tokens: 8_000\n  gradient_clip: 1e9\n  optimizer: muon"
    )
    small_study.write_text(text[: text.index("axes:")] + FRAGILE)
    shutil.copytree(databases, "runs")
    arguments = ["run", str(small_study), "--workers", "1", "--checkpoint-seconds", "0"]
    main(["status", str(small_study)])
    shown = capsys.readouterr().out
    assert "6 cells: 4 missing · 2 not chosen yet" in shown
    assert "tuning: 0 of 4 done" in shown
    assert "reported: 0 of 2 done" in shown
    _leave_waiting(small_study)
    (best,) = [cell for cell in _known(small_study) if cell.recipe.lr == 4e-3]
    obstacle = Path("runs/cells") / best.id / "checkpoints"
    obstacle.parent.mkdir(parents=True)
    obstacle.write_text("in the way of a folder")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == CELLS_FAILED
    assert _states() == {
        ("none", 1e6, 1): "diverged",
        ("none", 2e6, 1): "diverged",
        ("stacked", 1e-3, 1): "complete",
        ("stacked", 4e-3, 1): "failed",
        ("none", 1e6, 0): "diverged",
        ("stacked", 1e-3, 0): "complete",
    }
    reasons = [row["reason"] for row in records(Path(), "cells.jsonl")]
    assert "training FVU" in reasons[0]
    assert "FileExistsError" in reasons[3]
    failed = [trial for trial in trials(Path()) if trial.state == optuna.trial.TrialState.FAIL]
    assert sorted((t.params["remedy"], t.params["lr"], t.user_attrs["seed"]) for t in failed) == [
        ("none", 1e6, 0),
        ("none", 1e6, 1),
        ("none", 2e6, 0),  # left waiting, and not asked for
        ("none", 2e6, 1),
        ("stacked", 4e-3, 0),  # likewise
        ("stacked", 4e-3, 1),
    ]
    runs, _ = mlflow_runs(Path())
    assert {run.data.tags["state"] for run in runs} == {"failed", "diverged", "complete"}
    assert {(run.data.tags["axis_remedy"], run.data.params["layers"]) for run in runs} == {
        ("none", "none"),
        ("stacked", "sparse 2"),
    }

    capsys.readouterr()
    main(["status", str(small_study)])
    shown = capsys.readouterr().out
    assert "6 cells: 2 complete · 3 diverged · 1 failed" in shown
    assert "tuning: 3 of 4 done" in shown
    assert "stacked, lr 0.004, seed 1: FileExistsError" in shown
    assert re.findall(r"log: (\S+)", shown) == [str(obstacle.parent / "log.txt")]
    assert "Traceback" in (obstacle.parent / "log.txt").read_text()
    (obstacle.parent / "log.txt").unlink()  # as where its worker vanished
    main(["status", str(small_study)])
    assert re.findall(r"log: (\S+)", capsys.readouterr().out) == ["runs/small.log"]

    obstacle.unlink()
    main(arguments)
    assert list(_states().items())[2:] == [
        (("stacked", 1e-3, 1), "complete"),
        (("stacked", 4e-3, 1), "complete"),
        (("none", 1e6, 0), "diverged"),
        (("stacked", 4e-3, 0), "complete"),
    ]
    assert all(trial.state.is_finished() for trial in trials(Path()))


def _states() -> dict[tuple[str, float, int], str]:
    rows = records(Path(), "cells.jsonl")
    return {(row["arm"]["remedy"], row["tuned"]["lr"], row["seed"]): row["state"] for row in rows}


def _known(study: Path, score=lambda cell: None) -> list[CellSpec]:
    store = ActivationStore.open(Path("data/random/activations"))
    return known(load_study(study), store.fingerprint, score).cells


def _leave_waiting(study: Path) -> None:
    """Trials of reported cells, for either choice, as a controller killed in the second phase leaves them."""
    optuna_trials = OptunaTrials(Workspace(Path()).storage, load_study(study))
    rates = {cell.id: cell.recipe.lr for cell in _known(study)}
    for sign in (1, -1):
        scores = {cell: sign * rate for cell, rate in rates.items()}
        for cell in _known(study, scores.get):
            if cell.phase == "reported":
                optuna_trials.add(cell, None, [])


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
