"""Optuna: one study with one trial per cell, written by the controller alone, from the cells' folders.

`study.optimize` and samplers are not used: they lose or repeat cells when workers die or run in parallel.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.locks import this_process
from harness.records.dashboard_note import note
from harness.records.optuna_study import (
    NOT_ASKED_FOR,
    ControllerLock,
    describe_study,
    open_storage,
    open_study,
    retire,
    set_aside,
    set_attributes,
)
from harness.records.ownership import already_running
from harness.records.trial import (
    CURVE,
    Point,
    Result,
    attributes,
    distributions,
    fixed,
    labels,
    state_of,
    trial_of,
    value_of,
)
from harness.study.cells import CellSpec
from harness.study.spec import Study


@dataclass
class _Entry:
    """A cell's trial, by its id in the storage, which is needed to continue a running trial."""

    trial_id: int
    state: TrialState
    value: float | None
    attributes: dict[str, Any]
    steps: set[int] = field(default_factory=set)  # points of the curve that it has

    @classmethod
    def of(cls, trial: FrozenTrial) -> _Entry:
        value = trial.value if trial.state == TrialState.COMPLETE else None
        return cls(trial._trial_id, trial.state, value, trial.user_attrs, set(trial.intermediate_values))

    def came_to(self, result: Result | None) -> bool:
        """Whether it has finished with this result."""
        return self.state.is_finished() and (self.state, self.value) == (state_of(result), value_of(result))


class OptunaTrials:
    """The trials of one study, by cell.

    owner, workspace: whose study it is, as an id and as a name, if others may use the database, too.
    Raises UserError if another workspace owns it, or another controller runs it.
    """

    def __init__(self, url: str, study: Study, owner: str | None = None, workspace: str = "") -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._asked = study
        self._distributions = distributions(study)
        self._claim = owner, workspace
        self._storage = open_storage(url)
        self._lock = ControllerLock(self._storage.engine, study.name)
        try:
            self._open(study)
        except BaseException:
            self._lock.release()
            raise
        self.refresh()

    def _open(self, study: Study) -> None:
        taken = self._lock.held()
        owner, workspace = self._claim
        self._study = open_study(self._storage, study.name, fixed(study), owner)
        if not taken:
            raise already_running(study, self._study.user_attrs.get("controller", "another controller"))
        self._describe(study, {"owner": owner, "workspace": workspace, "axes": fixed(study)})
        self._study.set_user_attr("controller", this_process())

    def _describe(self, study: Study, claim: dict[str, str | None]) -> None:
        """Write the study's note and attributes, if they differ."""
        known = self._study.user_attrs
        describe_study(self._storage, self._study, note(study, known.get("report")))
        for name, value in {"question": study.question, **claim}.items():  # the axes last: then it is complete
            if value and known.get(name) != value:
                self._study.set_user_attr(name, value)

    def refresh(self) -> None:
        """Read the trials again: after an error it is not known what has been written."""
        self.hold()
        trials = [trial for trial in self._study.get_trials(deepcopy=False) if "cell" in trial.user_attrs]
        # A cell that was trained again, after a failure or without its folder, has a new trial: that one counts.
        self._entries = {trial.user_attrs["cell"]: _Entry.of(trial) for trial in trials}

    def hold(self) -> None:
        """Make sure of the lock, which its connection may lose. Raises UserError if another controller has it."""
        if not self._lock.held():
            raise already_running(self._asked, self._study.user_attrs.get("controller", "another controller"))

    def close(self) -> None:
        """Release the study for another controller."""
        self._lock.release()

    def add(self, cell: CellSpec, result: Result | None, points: Sequence[Point]) -> None:
        """Make sure that the cell has a trial, finished if the cell has a result."""
        entry = self._entries.get(cell.id)
        if entry is None or (entry.state.is_finished() and not entry.came_to(result)):
            if entry is not None and entry.state != TrialState.FAIL:
                retire(self._storage, entry.trial_id)
            self._add(cell, result, points)
            return
        self._update(entry, labels(cell))
        if result is not None and not entry.state.is_finished():
            self.start(cell.id)
            self.report(cell.id, points)
            self.finish(cell.id, result)
        else:
            self._update(entry, attributes(result))

    def _update(self, entry: _Entry, said: dict[str, Any]) -> None:
        """Write attributes of a trial, finished or not, that differ, as of a cell that was measured again."""
        known = entry.attributes
        if new := {name: value for name, value in said.items() if known.get(name) != value}:
            set_attributes(self._storage, {entry.trial_id: new})
            entry.attributes = {**known, **new}

    def _add(self, cell: CellSpec, result: Result | None, points: Sequence[Point]) -> None:
        trial = trial_of(cell, self._distributions, result, points)
        trial_id = self._storage.create_new_trial(self._study._study_id, trial)
        self._entries[cell.id] = _Entry(trial_id, trial.state, value_of(result), trial.user_attrs)

    def start(self, cell: str) -> None:
        """Mark a cell's waiting trial as running. Not by `ask`, which may return another trial."""
        entry = self._entries[cell]
        if entry.state == TrialState.WAITING:
            self._storage.set_trial_state_values(entry.trial_id, TrialState.RUNNING)
            entry.state = TrialState.RUNNING

    def keep_only(self, cells: Container[str]) -> None:
        """Rename the study and start a new one if it has figures of other cells; close their open trials.

        Optuna's best trial and plots include all trials of a study, whatever their attributes.
        """
        others = {cell: entry for cell, entry in self._entries.items() if cell not in cells}
        if any(entry.steps or entry.state == TrialState.COMPLETE for entry in others.values()):
            set_aside(self._storage, self._study)
            self._open(self._asked)
            self.refresh()
            return
        for cell, entry in others.items():
            if not entry.state.is_finished():
                self.start(cell)
                self.finish(cell, {"state": "failed", "reason": NOT_ASKED_FOR})

    def holds(self, cell: str) -> bool:
        """Whether the cell has a trial."""
        return cell in self._entries

    def suspend(self) -> None:
        """Set running trials to waiting: no worker trains these cells until the study is run again."""
        if not self._lock.held():  # they are another controller's
            return
        for entry in self._entries.values():
            if entry.state == TrialState.RUNNING:
                self._storage.set_trial_state_values(entry.trial_id, TrialState.WAITING)
                entry.state = TrialState.WAITING

    def begun(self) -> list[str]:
        """Cells that are not done, with a trial that is running (of a killed controller) or has points."""
        unfinished = {cell: entry for cell, entry in self._entries.items() if not entry.state.is_finished()}
        return [cell for cell, entry in unfinished.items() if entry.state == TrialState.RUNNING or entry.steps]

    def report(self, cell: str, points: Sequence[Point]) -> None:
        """Add new points of the curve to a trial, if it is running."""
        entry = self._entries[cell]
        for point in points if entry.state == TrialState.RUNNING else ():
            if CURVE in point and point["step"] not in entry.steps:
                self._storage.set_trial_intermediate_value(entry.trial_id, point["step"], point[CURVE])
                entry.steps.add(point["step"])

    def finish(self, cell: str, result: Result) -> None:
        """Finish a cell's trial with its result or failure."""
        entry = self._entries[cell]
        if entry.state.is_finished():
            self._update(entry, attributes(result))
            return
        set_attributes(self._storage, {entry.trial_id: attributes(result)})
        value = value_of(result)
        self._storage.set_trial_state_values(entry.trial_id, state_of(result), None if value is None else [value])
        entry.state, entry.value = state_of(result), value
        entry.attributes = {**entry.attributes, **attributes(result)}
