"""Optuna as the ledger: one study, one trial a cell. Written by the controller alone, and made anew from the
cells on disk whenever it does not fit them; what is true about a cell stands in its folder.

Why not `study.optimize` or a sampler: they lose or repeat cells when workers die or run side by side.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.locks import this_process
from harness.scheduling.claims import already_run
from harness.scheduling.shared_study import ControllerLock, open_storage, open_study
from harness.study.cells import Cell
from harness.study.grid import describe, levels
from harness.study.recipe import Scalar
from harness.study.spec import Study

METRIC = "held-out FVU"
CURVE = "heldout_fvu"
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}  # of a result; of any other: FAIL

Point = dict[str, Any]
Result = dict[str, Any]


@dataclass
class _Entry:
    """A cell's trial, by the storage's own name for it: the only way to go on with a running trial."""

    trial_id: int
    state: TrialState
    steps: set[int] = field(default_factory=set)  # points of the curve that it has

    @classmethod
    def of(cls, trial: FrozenTrial) -> _Entry:
        return cls(trial._trial_id, trial.state, set(trial.intermediate_values))


class Ledger:
    """The trials of one study, by cell.

    owner, workspace: whose study it is, for machines and for people, where others may use the database, too.
    Raises UserError if it is somebody else's, or if another controller runs it.
    """

    def __init__(self, url: str, study: Study, owner: str | None = None, workspace: str = "") -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", ExperimentalWarning)  # of the metric's name, which only labels an axis
        self._asked = study
        choices = levels(study)
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(values) for name, values in choices.items()
        }
        axes = _axes(study, choices)
        self._cells: set[str] = set()  # that this sweep has asked for so far
        self._storage = open_storage(url)
        self._lock = ControllerLock(self._storage.engine, study.name)
        try:
            self._open(study, axes, owner, workspace)
        except BaseException:
            self._lock.release()
            raise
        self.refresh()

    def _open(self, study: Study, axes: str, owner: str | None, workspace: str) -> None:
        taken = self._lock.held()
        self._study = open_study(self._storage, study.name, axes, owner)
        if not taken:
            raise already_run(study, self._study.user_attrs.get("controller", "another controller"))
        if "axes" not in self._study.user_attrs:
            self._describe(study, {"owner": owner, "workspace": workspace, "axes": axes})
        self._study.set_user_attr("controller", this_process())

    def _describe(self, study: Study, attributes: dict[str, str | None]) -> None:
        from optuna_dashboard import save_note  # two seconds of imports that only a new study needs

        self._study.set_metric_names([METRIC])
        save_note(self._study, f"# {study.name}\n\n{study.question}\n\nBaseline: {describe(study.baseline())}.")
        for name, value in {"question": study.question, **attributes}.items():  # the axes last: then it is whole
            if value:
                self._study.set_user_attr(name, value)

    def refresh(self) -> None:
        """Read the trials again: after an error nobody knows whether what was written has arrived."""
        self.hold()
        trials = [trial for trial in self._study.get_trials(deepcopy=False) if "cell" in trial.user_attrs]
        # A cell that was trained again, after a failure or since its folder is gone, has a new trial: it counts.
        self._entries = {trial.user_attrs["cell"]: _Entry.of(trial) for trial in trials}

    def hold(self) -> None:
        """Make sure of the lock, which goes with its connection. Raises UserError if another controller has it."""
        if not self._lock.held():
            raise already_run(self._asked, self._study.user_attrs.get("controller", "another controller"))

    def close(self) -> None:
        """Let another controller have the study."""
        self._lock.release()

    def add(self, cell: Cell, result: Result | None, points: Sequence[Point]) -> None:
        """Make sure that the cell has a trial, which is finished where the cell's result is already there."""
        self._cells.add(cell.id)
        entry = self._entries.get(cell.id)
        if entry is None or (entry.state.is_finished() and entry.state != _state(result)):
            self._add(cell, result, points)
        elif result is not None and not entry.state.is_finished():
            self.start(cell.id)
            self.report(cell.id, points)
            self.finish(cell.id, result)

    def _add(self, cell: Cell, result: Result | None, points: Sequence[Point]) -> None:
        trial = create_trial(
            state=_state(result),
            value=_value(result),
            params={**cell.arm, **cell.tuned},
            distributions=self._distributions,
            user_attrs={"cell": cell.id, "seed": cell.recipe.seed, "phase": cell.phase, **_attributes(result)},
            intermediate_values={p["step"]: p[CURVE] for p in points} if result else {},
        )
        trial_id = self._storage.create_new_trial(self._study._study_id, trial)
        self._entries[cell.id] = _Entry(trial_id, trial.state)

    def start(self, cell: str) -> None:
        """Mark a cell's waiting trial as running. Not by `ask`, which may choose another one."""
        entry = self._entries[cell]
        if entry.state == TrialState.WAITING:
            self._storage.set_trial_state_values(entry.trial_id, TrialState.RUNNING)
            entry.state = TrialState.RUNNING

    def drop_others(self) -> None:
        """Close the open trials of cells that have not been added, once all that are asked for have been."""
        for cell, entry in self._entries.items():
            if cell not in self._cells and not entry.state.is_finished():
                self.start(cell)
                self.finish(cell, {"state": "failed", "reason": "the study no longer asks for this cell"})

    def running(self) -> list[str]:
        """Cells whose trial is running, such as those that a killed controller left behind."""
        return [cell for cell, entry in self._entries.items() if entry.state == TrialState.RUNNING]

    def report(self, cell: str, points: Sequence[Point]) -> None:
        """Add points of the curve to a trial, if it runs; those there already stay."""
        entry = self._entries[cell]
        for point in points if entry.state == TrialState.RUNNING else ():
            if point["step"] not in entry.steps:
                self._storage.set_trial_intermediate_value(entry.trial_id, point["step"], point[CURVE])
                entry.steps.add(point["step"])

    def finish(self, cell: str, result: Result) -> None:
        """Say in a running trial what its cell came to."""
        entry = self._entries[cell]
        if entry.state.is_finished():
            return
        for name, value in _attributes(result).items():
            self._storage.set_trial_user_attr(entry.trial_id, name, value)
        value = _value(result)
        self._storage.set_trial_state_values(entry.trial_id, _state(result), None if value is None else [value])
        entry.state = _state(result)


def _axes(study: Study, choices: dict[str, list[Scalar]]) -> str:
    """Everything that what is said of a trial depends on, besides its cell."""
    more = {axis.name: dict(axis.bundles) for axis in study.axes if axis.bundles}
    return json.dumps([choices, more, study.tuning_seeds], sort_keys=True)


def _state(result: Result | None) -> TrialState:
    if result is None:
        return TrialState.WAITING
    return STATES.get(result["state"], TrialState.FAIL)


def _value(result: Result | None) -> float | None:
    return result["heldout"]["fvu"] if result is not None and result["state"] == "complete" else None


def _attributes(result: Result | None) -> dict[str, Any]:
    """What the dashboard shows beside the value."""
    if result is None:
        return {}
    retries = {"retries": result["retries"]} if result.get("retries") else {}
    if result["state"] != "complete":
        return {"state": result["state"], "reason": result["reason"], **retries}
    return {"state": "complete", "dead_fraction": result["heldout"]["dead_fraction"], **retries}
