"""MLflow: one parent run per study and one run per cell. The tag `kind` tells them apart.

MLflow stores a point once if it is logged again with the same time stamp. Time stamps here follow from the run's
start and the step, so that a curve that is written twice after a crash has no point twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from harness.records.dashboard_note import mlflow_note
from harness.records.mlflow_client import open_client, search
from harness.records.optuna_study import NOT_ASKED_FOR
from harness.records.ownership import belongs_to, name_aside
from harness.study.cells import CellSpec
from harness.study.labels import describe
from harness.study.recipe import RECIPE_FIELDS
from harness.study.spec import Study

CHUNK = 500  # metrics per call; MLflow's limit is 1,000


class MlflowRuns:
    """The MLflow runs of one study.

    owner, workspace: whose study it is, as an id and as a name, if others may use the database or the server, too.
    Raises UserError if another workspace owns it.
    """

    def __init__(
        self,
        uri: str,
        artifacts: Path,
        study: Study,
        owner: str | None = None,
        workspace: str = "",
        say: Callable[[str], Any] = lambda _: None,
    ) -> None:
        self._client = open_client(uri)
        self._place = None if uri.startswith("http") else artifacts.absolute().as_uri()  # a server has its own
        self._claim = {"owner": owner, "workspace": workspace} if owner is not None else {}
        self._study = study
        self._say = say
        self._activations: dict[str, float] = {}
        self._runs: dict[str, Run] = {}
        self._parent: str | None = None
        self._open()

    def _open(self) -> None:
        self._experiment = self._open_experiment(self._study.name, self._place, self._claim)
        self.refresh()
        self._parent = self._open_parent(self._study)

    def refresh(self) -> None:
        """Read the runs again: after an error it is not known what has been written.

        Restores what was deleted in MLflow's UI since they were last read.
        """
        self._restore_experiment()
        known = {self._parent, *(run.info.run_id for run in self._runs.values())}
        self._deleted = {}  # by cell; the study's own by its name
        for run in self._search("", ViewType.DELETED_ONLY):
            if run.info.run_id in known:
                self._client.restore_run(run.info.run_id)
            else:
                self._deleted[run.data.tags.get("cell") or run.data.tags.get("study")] = run
        self._runs = {run.data.tags["cell"]: run for run in self._search("tags.cell != ''")}
        self._with_figures = {cell for cell, run in self._runs.items() if run.data.metrics}
        self._open_cells = {cell for cell, run in self._runs.items() if run.info.status == "RUNNING"}

    def _restore_experiment(self) -> None:
        experiment = self._client.get_experiment(self._experiment)
        if experiment.lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_experiment(self._experiment)
            self._say(
                f"MLflow: the experiment {experiment.name!r} was deleted there; it is restored, with its runs"
            )

    def _restored(self, what: str) -> Run | None:
        """Restore and return the deleted run of this cell or study, if there is one."""
        run = self._deleted.pop(what, None)
        if run is not None:
            self._client.restore_run(run.info.run_id)
        return run

    def _open_experiment(self, name: str, artifacts: str | None, tags: dict[str, str]) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return str(self._client.create_experiment(name, artifacts, tags))
        if tags and experiment.tags.get("owner") != tags["owner"]:
            raise belongs_to(f"experiment {name!r} in MLflow", experiment.tags.get("workspace"), "--tracking")
        return str(experiment.experiment_id)

    def _search(self, query: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
        return search(self._client, self._experiment, query, view)

    def _open_parent(self, study: Study) -> str:
        tags = {"kind": "study", "mlflow.note.content": mlflow_note(study)}
        run = next(iter(self._search("tags.study != ''")), None) or self._restored(study.name)
        if run is not None:
            self._client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
            self._client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        tags |= {"study": study.name, MLFLOW_RUN_NAME: f"study {study.name}"}
        return str(self._client.create_run(self._experiment, tags=tags).info.run_id)

    def keep_only(self, cells: Container[str]) -> None:
        """Rename the experiment and start a new one if it has figures of other cells; close their open runs.

        MLflow's means are over all runs of an experiment, whatever their tags.
        """
        others = {cell for cell in self._runs if cell not in cells}
        if others & self._with_figures:
            self._set_aside()
            return
        for cell in others & self._open_cells:
            self._abandon(cell)

    def _set_aside(self) -> None:
        for cell in list(self._open_cells):
            self._abandon(cell)
        self.close(complete=False)
        taken = {experiment.name for experiment in self._client.search_experiments(ViewType.ALL)}
        self._client.rename_experiment(self._experiment, name_aside(self._study.name, taken))
        self._open()
        self.describe(self._activations)

    def _abandon(self, cell: str) -> None:
        run = self._runs[cell].info.run_id
        self._client.log_batch(run, tags=[RunTag("state", "failed"), RunTag("reason", NOT_ASKED_FOR)])
        self._client.set_terminated(run, status="KILLED")
        self._open_cells.discard(cell)

    def describe(self, activations: dict[str, float]) -> None:
        """Log figures of the activations, such as their outlier severity, to the study's run."""
        self._activations = activations
        start = self._client.get_run(self._parent).info.start_time  # always the same: stored once
        metrics = [Metric(f"activations/{name}", value, start, 0) for name, value in activations.items()]
        self._client.log_batch(self._parent, metrics=metrics)

    def start(self, cell: CellSpec) -> None:
        """Open the cell's run, or open it again; its parameters are the recipe's fields."""
        run = self._runs.get(cell.id) or self._restored(cell.id) or self._create(cell)
        self._runs[cell.id] = run
        self._client.update_run(run.info.run_id, status="RUNNING", name=cell.label)
        parameters = [Param(name, str(value)) for name, value in vars(cell.recipe).items()]
        tags = [RunTag(name, value) for name, value in self._tags(cell).items()]
        self._client.log_batch(run.info.run_id, params=parameters, tags=tags)
        for axis in self._former_axes(run, cell):
            self._client.delete_tag(run.info.run_id, axis)
            del run.data.tags[axis]
        self._open_cells.add(cell.id)

    def _create(self, cell: CellSpec) -> Run:
        tags = {"cell": cell.id, MLFLOW_PARENT_RUN_ID: self._parent, MLFLOW_RUN_NAME: cell.label}
        return self._client.create_run(self._experiment, start_time=_now(), tags=tags)

    def log(self, cell: str, points: Sequence[dict[str, Any]]) -> None:
        """Add points of the cell's curves: `train_fvu` becomes the metric `train/fvu`."""
        info = self._runs[cell].info
        metrics = [
            Metric(name.replace("_", "/", 1), float(value), info.start_time + point["step"], point["step"])
            for point in points
            for name, value in point.items()
            if name.startswith(("train_", "heldout_")) and math.isfinite(value)  # others break MLflow's pages
        ]
        for start in range(0, len(metrics), CHUNK):
            self._client.log_batch(info.run_id, metrics=metrics[start : start + CHUNK])
        self._with_figures.add(cell)

    def finish(self, cell: str, result: dict[str, Any]) -> None:
        """Close the cell's run with its final figures (`final/fvu`, ...), or the reason why there are none."""
        info = self._runs[cell].info
        tags = [RunTag("state", result["state"])]
        if result["reason"]:
            tags.append(RunTag("reason", result["reason"][:5000]))
        if result.get("retries"):
            tags.append(RunTag("retries", str(result["retries"])))
        # At step 0 the UI compares them as bars, not as curves of one point. MLflow shows the latest value, so
        # what was measured again replaces what was there.
        known = self._runs[cell].data.metrics
        metrics = [
            Metric(name, value, self._later(cell, name) if name in known else info.start_time, 0)
            for name, value in _final(result).items()
            if known.get(name) != value
        ]
        self._client.log_batch(info.run_id, metrics=metrics, tags=tags)
        self._with_figures.add(cell)
        status = {"complete": "FINISHED", "pruned": "KILLED"}.get(result["state"], "FAILED")
        self._client.set_terminated(info.run_id, status=status)
        self._open_cells.discard(cell)

    def _later(self, cell: str, metric: str) -> int:
        """A time stamp after all that this metric has, also where the clock was put back since."""
        history = self._client.get_metric_history(self._runs[cell].info.run_id, metric)
        return max(_now(), *(int(point.timestamp) + 1 for point in history))

    def suspend(self) -> None:
        """Set open runs to `SCHEDULED`: no worker trains these cells until the study is run again."""
        for cell in list(self._open_cells):
            self._client.update_run(self._runs[cell].info.run_id, status="SCHEDULED")
            self._open_cells.discard(cell)

    def holds(self, cell: str) -> bool:
        """Whether the cell has a run."""
        return cell in self._runs

    def finished(self, cell: CellSpec, result: dict[str, Any]) -> bool:
        """Whether the cell's run was closed with this result before this sweep, and has the study's tags.

        Its measurements are part of the result: they may have been made again since.
        """
        run = self._runs.get(cell.id)
        if run is None or run.info.status not in ("FINISHED", "FAILED", "KILLED"):
            return False
        if self._former_axes(run, cell):
            return False
        said = {**self._tags(cell), "state": result["state"]}
        known = run.data.metrics
        return all(run.data.tags.get(name) == value for name, value in said.items()) and all(
            known.get(name) == value for name, value in _final(result).items()
        )

    def _tags(self, cell: CellSpec) -> dict[str, str]:
        """What the study says about a cell, as tags: parameters cannot be changed in MLflow."""
        levels = {**cell.arm, **cell.tuned}
        named = {f"axis_{axis}": str(level) for axis, level in levels.items() if axis not in RECIPE_FIELDS}
        arm = describe(cell.arm) or self._study.name
        return {"kind": "cell", "arm": arm, "phase": cell.phase, **named}

    def _former_axes(self, run: Run, cell: CellSpec) -> list[str]:
        """Tags of axes that the study file no longer has under this name."""
        return [tag for tag in run.data.tags if tag.startswith("axis_") and tag not in self._tags(cell)]

    def close(self, *, complete: bool) -> None:
        """Close the study's run; a later sweep opens it again."""
        self._client.set_terminated(self._parent, status="FINISHED" if complete else "KILLED")


def _final(result: dict[str, Any]) -> dict[str, float]:
    """A cell's final figures as metrics, `final/fvu`, ...; those that are not finite break MLflow's pages."""
    final = {**(result.get("heldout") or {}), **_by_layer(result), "seconds": result.get("seconds", 0.0)}
    return {f"final/{name}": float(value) for name, value in final.items() if math.isfinite(value)}


def _by_layer(result: dict[str, Any]) -> dict[str, float]:
    """Figures of stacked sparse layers: `layer_1_l0`, ...; none if there is only one layer."""
    layers = result.get("layers") or []
    if len(layers) < 2:
        return {}
    return {f"layer_{number}_{k}": v for number, layer in enumerate(layers, start=1) for k, v in layer.items()}


def _now() -> int:
    return int(time.time() * 1000)
