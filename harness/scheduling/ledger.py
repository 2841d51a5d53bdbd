"""Optuna as the ledger: one study, one trial a cell. Written by the controller alone, and made anew from the
cells on disk whenever it does not fit them; what is true about a cell stands in its folder.

Why not `study.optimize` or a sampler: they lose or repeat cells when workers die or run side by side.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.locks import this_process
from harness.scheduling.claims import already_run
from harness.scheduling.note import note
from harness.scheduling.shared_study import (
    NOT_ASKED_FOR,
    ControllerLock,
    describe_study,
    open_storage,
    open_study,
    set_aside,
    set_attributes,
)
from harness.scheduling.trial import (
    CURVE,
    Point,
    Result,
    attributes,
    distributions,
    fixed,
    state_of,
    trial_of,
    value_of,
)
from harness.study.cells import Cell
from harness.study.spec import Study


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
            raise already_run(study, self._study.user_attrs.get("controller", "another controller"))
        self._describe(study, {"owner": owner, "workspace": workspace, "axes": fixed(study)})
        self._study.set_user_attr("controller", this_process())

    def _describe(self, study: Study, claim: dict[str, str | None]) -> None:
        """Say what the study is, where that is not what it says already."""
        known = self._study.user_attrs
        describe_study(self._storage, self._study, note(study, known.get("report")))
        for name, value in {"question": study.question, **claim}.items():  # the axes last: then it is whole
            if value and known.get(name) != value:
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
        entry = self._entries.get(cell.id)
        if entry is None or (entry.state.is_finished() and entry.state != state_of(result)):
            self._add(cell, result, points)
        elif result is not None and not entry.state.is_finished():
            self.start(cell.id)
            self.report(cell.id, points)
            self.finish(cell.id, result)

    def _add(self, cell: Cell, result: Result | None, points: Sequence[Point]) -> None:
        trial = trial_of(cell, self._distributions, result, points)
        trial_id = self._storage.create_new_trial(self._study._study_id, trial)
        self._entries[cell.id] = _Entry(trial_id, trial.state)

    def start(self, cell: str) -> None:
        """Mark a cell's waiting trial as running. Not by `ask`, which may choose another one."""
        entry = self._entries[cell]
        if entry.state == TrialState.WAITING:
            self._storage.set_trial_state_values(entry.trial_id, TrialState.RUNNING)
            entry.state = TrialState.RUNNING

    def keep_only(self, cells: Container[str]) -> None:
        """Set the study aside if it has figures of other cells than these, and go on with a new one.

        Optuna's best trial and its plots are of all trials of a study, whatever is said of them. Other cells'
        open trials are closed where they stand.
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
        """Have trials that run wait again: nobody works on them until the study is run again."""
        if not self._lock.held():  # they are another controller's
            return
        for entry in self._entries.values():
            if entry.state == TrialState.RUNNING:
                self._storage.set_trial_state_values(entry.trial_id, TrialState.WAITING)
                entry.state = TrialState.WAITING

    def begun(self) -> list[str]:
        """Cells that are not done and whose trial runs, as a killed controller leaves it, or has a curve begun."""
        unfinished = {cell: entry for cell, entry in self._entries.items() if not entry.state.is_finished()}
        return [cell for cell, entry in unfinished.items() if entry.state == TrialState.RUNNING or entry.steps]

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
        set_attributes(self._storage, {entry.trial_id: attributes(result)})
        value = value_of(result)
        self._storage.set_trial_state_values(entry.trial_id, state_of(result), None if value is None else [value])
        entry.state = state_of(result)
