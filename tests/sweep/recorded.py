"""What Optuna and MLflow hold of a workspace, read through their own interfaces; where the environment says that
its databases are elsewhere, from there."""

import os
from collections import Counter
from pathlib import Path

import optuna
from mlflow import MlflowClient


def trials(root: Path, study: str = "small") -> list[optuna.trial.FrozenTrial]:
    url = os.environ.get("HARNESS_STORAGE", f"sqlite:///{root / 'runs' / 'optuna.db'}")
    return optuna.load_study(study_name=study, storage=url.replace("postgresql:", "postgresql+psycopg:")).trials


def client(root: Path) -> MlflowClient:
    # absolute: MLflow keeps what it has opened by URI, whatever the current folder has become
    ours = f"sqlite:///{(root / 'runs' / 'mlflow.db').absolute()}"
    return MlflowClient(tracking_uri=os.environ.get("HARNESS_TRACKING", ours))


def mlflow_runs(root: Path, study: str = "small"):
    """The runs of the cells and the parent run."""
    mlflow = client(root)
    experiment = mlflow.get_experiment_by_name(study)
    assert experiment is not None
    runs = mlflow.search_runs([experiment.experiment_id])
    cells = [run for run in runs if "cell" in run.data.tags]
    (parent,) = [run for run in runs if "study" in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in cells} == {parent.info.run_id}
    return cells, parent


def assert_nothing_runs(root: Path) -> None:
    """As both dashboards show it: what was begun waits."""
    runs, parent = mlflow_runs(root)
    assert optuna.trial.TrialState.RUNNING not in {trial.state for trial in trials(root)}
    assert {run.info.status for run in runs} <= {"SCHEDULED", "FINISHED"}
    assert parent.info.status == "KILLED"


def curve(root: Path, run_id: str, metric: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in client(root).get_metric_history(run_id, metric))


def phases(root: Path, study: str = "small") -> dict[str, tuple[str, str]]:
    """The phase of each cell, as Optuna and as MLflow have it."""
    runs, _ = mlflow_runs(root, study)
    tags = {run.data.tags["cell"]: run.data.tags["phase"] for run in runs}
    return {t.user_attrs["cell"]: (t.user_attrs["phase"], tags[t.user_attrs["cell"]]) for t in trials(root, study)}


def assert_each_cell_once(root: Path, cells: list[str], points: dict[str, list[tuple[int, float]]]) -> None:
    """One finished trial and one finished run a cell, with every point of its curve exactly once."""
    complete = [t for t in trials(root) if t.state == optuna.trial.TrialState.COMPLETE]
    assert Counter(t.user_attrs["cell"] for t in trials(root)) == Counter(cells)
    assert len(complete) == len(cells)
    runs, parent = mlflow_runs(root)
    assert Counter(run.data.tags["cell"] for run in runs) == Counter(cells)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.info.status == "FINISHED"
    for trial in complete:
        cell = trial.user_attrs["cell"]
        assert sorted(trial.intermediate_values.items()) == points[cell]
    for run in runs:
        assert curve(root, run.info.run_id, "heldout/fvu") == points[run.data.tags["cell"]]
