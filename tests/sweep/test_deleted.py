"""What a user has deleted in a dashboard, and then asks for again."""

import json
import shutil
from pathlib import Path

import optuna
import pytest

from harness.activations.store import ActivationStore
from harness.cli import main
from harness.study.known import known
from harness.study.spec import load_study
from harness.sweep.study_recorder import StudyRecorder
from harness.workspace import Workspace
from tests.sweep.recorded import assert_each_cell_once, client, mlflow_runs, trials
from tests.sweep.test_sweep import points, records


@pytest.fixture
def finished(undisturbed, tmp_path, monkeypatch) -> Path:
    """A workspace whose study has been run to its end."""
    root = tmp_path / "here"
    shutil.copytree(undisturbed, root)
    monkeypatch.chdir(root)
    main(["run", "studies/small.yaml", "--workers", "1"])  # the copies are other files: they are told once more
    return root


def test_what_was_deleted_in_the_dashboards_is_restored_or_made_anew(finished, capsys):
    before, parent = mlflow_runs(finished)
    experiment = parent.info.experiment_id
    main(["run", "studies/small.yaml", "--workers", "1"])
    capsys.readouterr()

    client(finished).delete_run(before[0].info.run_id)
    client(finished).delete_run(parent.info.run_id)
    main(["run", "studies/small.yaml", "--workers", "1"])
    assert {run.info.run_id for run in mlflow_runs(finished)[0]} == {run.info.run_id for run in before}

    client(finished).delete_experiment(experiment)
    optuna.delete_study(study_name="small", storage=f"sqlite:///{finished}/runs/optuna.db")
    main(["run", "studies/small.yaml", "--workers", "1"])
    said = " ".join(capsys.readouterr().out.split())
    assert "MLflow: the experiment 'small' was deleted there; it is restored, with its runs" in said
    after, parent_after = mlflow_runs(finished)
    assert parent_after.info.run_id == parent.info.run_id
    assert {run.info.run_id for run in after} == {run.info.run_id for run in before}
    rows = records(finished, "cells.jsonl")
    assert_each_cell_once(finished, [row["cell"] for row in rows], points(finished))


def test_what_another_study_has_measured_again_reaches_the_databases(finished):
    cell = records(finished, "cells.jsonl")[0]["cell"]
    (path,) = Path("runs/cells", cell, "measurements").glob("robust.median*.json")
    record = json.loads(path.read_text())
    record["figures"]["nmse_median"] = 0.125
    path.write_text(json.dumps(record))
    main(["run", "studies/small.yaml", "--workers", "1"])
    (row,) = [row for row in records(finished, "cells.jsonl") if row["cell"] == cell]
    (trial,) = [trial for trial in trials(finished) if trial.user_attrs["cell"] == cell]
    (run,) = [run for run in mlflow_runs(finished)[0] if run.data.tags["cell"] == cell]
    assert row["heldout"]["nmse_median"] == 0.125
    assert trial.user_attrs["nmse_median"] == 0.125
    assert run.data.metrics["final/nmse_median"] == 0.125


def test_runs_that_are_deleted_while_they_are_written_are_restored(small_study, databases):
    shutil.copytree(databases, "runs")
    said: list[str] = []
    study = load_study(small_study)
    store = ActivationStore.open(Path("data/random/activations"))
    one, *_ = known(study, store.fingerprint, lambda cell: None).cells
    recorder = StudyRecorder(study, Workspace(Path()), {}, said.append)
    recorder.add(one)
    recorder.start(one)
    (run,), _ = mlflow_runs(Path())
    client(Path()).delete_experiment(run.info.experiment_id)
    recorder.folder(one.id).fail("some reason")
    assert not recorder.finish(one.id)
    recorder.flush()
    recorder.close(complete=False)
    (after,), _ = mlflow_runs(Path())
    assert (after.info.run_id, after.info.status) == (run.info.run_id, "FAILED")
    assert any("the experiment 'small' was deleted there; it is restored" in line for line in said)
