"""Records a study's cells in Optuna and MLflow, from the cells' folders."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from alembic.util import CommandError as VersionError
from mlflow.exceptions import MlflowException
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from harness.databases import make_ready, shown
from harness.errors import UserError
from harness.evaluation.measurements import Measurement
from harness.records.mlflow_client import create_tables as create_runs
from harness.records.mlflow_runs import MlflowRuns
from harness.records.optuna_study import create_tables as create_trials
from harness.records.optuna_trials import OptunaTrials
from harness.records.retry_queue import RetryQueue, reason_of
from harness.records.trial import CURVE
from harness.study.cells import CellSpec
from harness.study.identity import code_of
from harness.study.spec import Study
from harness.sweep.latents import StudyLatents
from harness.sweep.pruner import Pruner
from harness.workers.cell_folder import CellFolder, Record
from harness.workspace import Workspace

HOLD = 15.0  # seconds between two checks of the lock
OPTUNA, MLFLOW = "Optuna's database", "MLflow"


class StudyRecorder:
    """Keeps a trial and a run for each cell; points of its curve are added as they come.

    While a database cannot be reached, writes to it are queued (`RetryQueue`).
    """

    def __init__(
        self,
        study: Study,
        workspace: Workspace,
        activations: dict[str, float],
        say: Callable[[str], Any] = lambda _: None,
        pruner: Pruner | None = None,
        measurements: Sequence[Measurement] = (),
        latents: StudyLatents | None = None,
    ) -> None:
        """activations: figures of the study's activations, by name. say: prints a line for the user.

        pruner: of a study that prunes; points that may still be pruned away are written later, or not at all.
        measurements: those that every cell must have. latents: what was found about latents of some.
        """
        self._workspace = workspace
        self._study = study
        self._pruner = pruner or Pruner(None, self.folder)
        self.measurements = tuple(measurements)
        self._latents = latents
        name = workspace.name()
        with opening(OPTUNA, workspace.storage):
            make_ready(workspace.storage, create_trials, ours=workspace.storage_url is None, say=say)
            owner = workspace.owner() if workspace.storage_url else None  # a file in runs/ is the workspace's own
            self._optuna = OptunaTrials(workspace.storage, study, owner, name)
        with opening(MLFLOW, workspace.tracking):
            create = partial(create_runs, artifacts=workspace.artifacts)
            make_ready(workspace.tracking, create, ours=workspace.tracking_url is None, say=say)
            owner = workspace.owner() if workspace.tracking_url else None
            self._mlflow = MlflowRuns(workspace.tracking, workspace.artifacts, study, owner, name, say)
            self._mlflow.describe(activations)
        self._trials = RetryQueue(OPTUNA, workspace.storage, self._optuna.refresh, say)
        self._runs = RetryQueue(MLFLOW, workspace.tracking, self._mlflow.refresh, say)
        self._held = time.monotonic()
        self._to_enter: dict[str, CellSpec] = {}  # taken up, and without a trial yet
        self._sent: dict[str, int] = {}  # points of its curve that were passed on
        self._cells: dict[str, CellSpec] = {}  # asked for so far

    @property
    def pruned_by(self) -> str | None:
        return self._study.pruned_by

    @property
    def curve_points(self) -> int:
        return self._study.curve_points

    def folder(self, cell: str) -> CellFolder:
        return CellFolder(self._workspace.cell(cell), self._study.pruned_by)

    def add(self, cell: CellSpec) -> bool:
        """Add a cell, which gets its trial later (`enter`). Returns whether it is done already."""
        self._cells[cell.id] = cell
        self._to_enter[cell.id] = cell
        return self._final_result(cell.id) is not None and self.done(cell)

    def done(self, cell: CellSpec) -> bool:
        """Whether a cell has its result, and all measurements that can be made of it."""
        folder = self.folder(cell.id)
        return folder.result() is not None and not folder.to_measure(self.measurements, cell.recipe)

    def enter(self, seconds: float = math.inf) -> bool:
        """Make trials for cells that were added, for at most this long. Returns whether some are left.

        Thousands of trials take minutes, during which workers already train.
        """
        until = time.monotonic() + seconds
        while self._to_enter and time.monotonic() < until:
            self._enter(next(iter(self._to_enter)))
        return bool(self._to_enter)

    def _enter(self, cell_id: str) -> None:
        """Make a cell's trial, unless it has one; if the cell is done, write everything about it."""
        cell = self._to_enter.pop(cell_id, None)
        if cell is None:
            return
        result = self._outcome(cell.id) if self._final_result(cell.id) is not None else None
        self._trials.put(partial(self._optuna.add, cell, result, self._points(cell.id) if result else []))
        if result is not None and not self._mlflow.finished(cell, result):
            self._runs.put(partial(self._mlflow.start, cell))
            self.pass_on(cell.id)
            self._runs.put(partial(self._mlflow.finish, cell.id, result))

    def _final_result(self, cell: str) -> Record | None:
        """The cell's result, unless its study may still prune it."""
        return self.folder(cell).result() if self._pruner.final(cell) else None

    def started(self) -> list[str]:
        """Cells that have been started and are not done."""
        return self._optuna.begun()

    def start(self, cell: CellSpec) -> None:
        """Start the cell's trial and its run, and write what it is into its folder."""
        self._enter(cell.id)
        about = {"arm": cell.arm, "recipe": asdict(cell.recipe), "source": self._study.source.name}
        self.folder(cell.id).describe({**about, "code": code_of(cell.recipe)})
        self._trials.put(partial(self._optuna.start, cell.id))
        self._runs.put(partial(self._mlflow.start, cell))

    def pass_on(self, cell: str) -> float | None:
        """Write new points of the cell's curve. Returns its last held-out FVU, if it has any."""
        points = self._points(cell)
        if new := points[self._sent.get(cell, 0) :]:
            self._runs.put(partial(self._mlflow.log, cell, new))
            self._trials.put(partial(self._optuna.report, cell, new))
            self._sent[cell] = len(points)
        known = [point[CURVE] for point in points if CURVE in point]
        return float(known[-1]) if known else None

    def _points(self, cell: str) -> list[Record]:
        return [point for point in self.folder(cell).points() if point["step"] <= self._pruner.judged(cell)]

    def finish(self, cell: str) -> Record | None:
        """Finish the trial and the run of a cell that has ended. Returns its result, if it has one."""
        self.pass_on(cell)
        outcome = self._outcome(cell)
        self._trials.put(partial(self._optuna.finish, cell, outcome))
        self._runs.put(partial(self._mlflow.finish, cell, outcome))
        return self.folder(cell).result()

    def _outcome(self, cell: str) -> Record:
        folder = self.folder(cell)
        done = folder.outcome(self.measurements, self._cells[cell].recipe)
        outcome = done or folder.failure() or {"state": "failed", "reason": "unknown"}
        if self._latents is not None:
            outcome = self._latents.added(cell, outcome)
        return {**outcome, "retries": folder.retries()}

    def catch_up(self) -> None:
        """Write what is queued for a database that could not be reached, if it is time to try again.

        Raises UserError if another controller has taken over the study.
        """
        if time.monotonic() - self._held >= HOLD:
            self._held = time.monotonic()
            self._trials.put(self._optuna.hold)
        self._trials.catch_up()
        self._runs.catch_up()

    def keep_only(self, cells: Container[str]) -> None:
        """Rename the study and the experiment if they have figures of other cells, and start new ones.

        Those of `cells` that were added before are then added again, from their folders.
        """
        self._trials.put(partial(self._keep_trials, cells))
        self._runs.put(partial(self._keep_runs, cells))

    def _keep_trials(self, cells: Container[str]) -> None:
        self._optuna.keep_only(cells)
        for cell in self._cells.values():
            if not self._optuna.holds(cell.id):
                outcome = self._outcome(cell.id) if self._has_ended(cell.id) else None
                self._optuna.add(cell, outcome, self._points(cell.id))

    def _keep_runs(self, cells: Container[str]) -> None:
        self._mlflow.keep_only(cells)
        for cell in self._cells.values():
            if not self._mlflow.holds(cell.id) and self._has_ended(cell.id):
                self._mlflow.start(cell)
                self._mlflow.log(cell.id, self._points(cell.id))
                self._mlflow.finish(cell.id, self._outcome(cell.id))

    def _has_ended(self, cell: str) -> bool:
        """Whether it has a result or a failure: `harness evaluate` comes upon cells that have neither."""
        return self.folder(cell).score() is not None

    def flush(self, *, final: bool = True) -> None:
        """Wait until everything is written. final: whether all that the study asks for is known; then no other
        cells are kept."""
        self.enter()
        if final:
            self.keep_only(self._cells)
        self._trials.flush()
        self._runs.flush()

    def close(self, *, complete: bool) -> None:
        """Close the study's run, have open trials and runs wait, and release the study for other controllers."""
        self._trials.put(self._optuna.suspend)
        self._runs.put(self._mlflow.suspend)
        self._runs.put(partial(self._mlflow.close, complete=complete))
        self._optuna.close()


@contextmanager
def opening(what: str, url: str) -> Iterator[None]:
    """Raise UserError if the database cannot be opened: the user can correct that."""
    try:
        yield
    except VersionError as error:
        raise UserError(f"{what} at {shown(url)}: made by another version of it: {reason_of(error)}") from None
    except (OptunaError, SQLAlchemyError, MlflowException, sqlite3.Error, OSError) as error:
        raise UserError(f"{what} at {shown(url)}: {reason_of(error)}") from None
