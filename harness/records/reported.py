"""Writes a report to the databases of its sweep: which cells are reported, and the arms.

Writing twice stores nothing twice, and what was deleted is made again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from optuna.storages import RDBStorage

from harness.databases import find_artifacts
from harness.fingerprint import fingerprint
from harness.locks import exclusive
from harness.records.dashboard_note import note
from harness.records.mlflow_client import open_client, search
from harness.records.mlflow_runs import CHUNK
from harness.records.optuna_study import ControllerLock, describe_study, open_storage, set_attributes
from harness.records.ownership import already_running
from harness.study.spec import Study
from harness.workspace import Workspace

ABOUT_ARMS = (
    "An arm as the report has it: means over the cells that are tagged `reported: yes`, with the "
    "report's intervals (`_low`, `_high`). The step of a curve is the number of tokens trained on. What the "
    "metrics mean is in the description of the study's run."
)


@dataclass(frozen=True)
class ReportedArm:
    """One row of the arms table. curve: mean curves, by the number of tokens trained on."""

    label: str
    parameters: dict[str, str]
    figures: dict[str, float]
    curve: dict[int, dict[str, float]]


@dataclass(frozen=True)
class Reported:
    """A report. reported: ids of the cells that the arms' means are over. latents: the page of a study's latents,
    which may not be there. figures: image files."""

    reported: frozenset[str]
    arms: list[ReportedArm]
    page: Path
    latents: Path
    figures: list[Path]


@contextmanager
def writing(study: Study, workspace: Workspace) -> Iterator[None]:
    """Hold the study's lock. Raises UserError while a controller has it."""
    lock = workspace.controller(study.name)
    with exclusive(lock) as mine:
        if not mine:
            raise already_running(study, lock.read_text())
        yield


def write_to_optuna(study: Study, workspace: Workspace, said: Reported) -> None:
    """Mark each trial as reported or not, and the study with the path of its report."""
    storage = open_storage(workspace.storage)
    if study.name not in optuna.get_all_study_names(storage):
        return
    lock = ControllerLock(storage.engine, study.name)
    try:
        optuna_study = optuna.load_study(study_name=study.name, storage=storage)
        if workspace.storage_url and optuna_study.user_attrs.get("owner") != workspace.owner():
            return
        if not lock.held():
            raise already_running(study, optuna_study.user_attrs.get("controller", "another controller"))
        _mark_trials(storage, optuna_study, said)
        if optuna_study.user_attrs.get("report") != str(said.page):
            optuna_study.set_user_attr("report", str(said.page))
        describe_study(storage, optuna_study, note(study, str(said.page)))
    finally:
        lock.release()


def _mark_trials(storage: RDBStorage, optuna_study: optuna.Study, said: Reported) -> None:
    trials = [trial for trial in optuna_study.get_trials(deepcopy=False) if "cell" in trial.user_attrs]
    last = {trial.user_attrs["cell"]: trial.number for trial in trials}  # a cell that failed before has several
    changed = {}
    for trial in trials:
        cell = trial.user_attrs["cell"]
        reported = _yes(cell in said.reported and last[cell] == trial.number)
        if trial.user_attrs.get("reported") != reported:
            changed[trial._trial_id] = {"reported": reported}
    set_attributes(storage, changed)


def write_to_mlflow(study: Study, workspace: Workspace, said: Reported) -> None:
    """Mark each run as reported or not, write a run for each arm, and add the report to the study's run."""
    if workspace.tracking_url is None:
        find_artifacts(workspace.runs / "mlflow.db", workspace.artifacts)
    client = open_client(workspace.tracking)
    experiment = client.get_experiment_by_name(study.name)
    if experiment is None or experiment.lifecycle_stage != "active":
        return
    if workspace.tracking_url and experiment.tags.get("owner") != workspace.owner():
        return
    runs = search(client, experiment.experiment_id, "")
    for run in runs:
        if cell := run.data.tags.get("cell"):
            _set_tag(client, run, "reported", _yes(cell in said.reported))
    arms = [run for run in runs if run.data.tags.get("kind") == "arm"]
    _write_arms(client, experiment.experiment_id, arms, said.arms)
    for parent in [run for run in runs if "study" in run.data.tags]:
        for path in (said.page, said.latents, *said.figures):
            if path.is_file():
                folder = "figures" if path in said.figures else None
                client.log_artifact(parent.info.run_id, str(path), folder)


def _set_tag(client: MlflowClient, run: Run, name: str, value: str) -> None:
    if run.data.tags.get(name) != value:
        client.set_tag(run.info.run_id, name, value)


def _write_arms(client: MlflowClient, experiment: str, there: list[Run], arms: list[ReportedArm]) -> None:
    """Make the runs of arms that are missing or differ: figures of a run in MLflow cannot be changed."""
    wanted = {arm.label: (fingerprint(asdict(arm)), arm) for arm in arms}
    whole = set()
    for run in there:
        label = run.data.tags["arm"]
        told = run.data.tags.get("fingerprint") if run.info.status == "FINISHED" else None
        if label in wanted and wanted[label][0] == told and label not in whole:
            whole.add(label)
        else:
            client.delete_run(run.info.run_id)
    now = int(time.time() * 1000)
    for place, (label, (stamp, arm)) in enumerate(wanted.items()):
        if label not in whole:
            _make_arm(client, experiment, arm, stamp, start=now - place)  # MLflow lists the latest first


def _make_arm(client: MlflowClient, experiment: str, arm: ReportedArm, stamp: str, start: int) -> None:
    """Make an arm's run, not nested below the study's run as cells are: MLflow shows runs without a parent first.

    The fingerprint is written last: it marks the run as complete.
    """
    tags = {"kind": "arm", "arm": arm.label, MLFLOW_RUN_NAME: arm.label, "mlflow.note.content": ABOUT_ARMS}
    run = client.create_run(experiment, start_time=start, tags=tags).info
    client.log_batch(run.run_id, params=[Param(name, value) for name, value in arm.parameters.items()])
    metrics = [Metric(f"final/{name}", value, run.start_time, 0) for name, value in arm.figures.items()]
    for place, (tokens, values) in enumerate(arm.curve.items()):
        metrics += [Metric(name, value, run.start_time + place, tokens) for name, value in values.items()]
    for first in range(0, len(metrics), CHUNK):
        client.log_batch(run.run_id, metrics=metrics[first : first + CHUNK])
    client.log_batch(run.run_id, tags=[RunTag("fingerprint", stamp)])
    client.set_terminated(run.run_id)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
