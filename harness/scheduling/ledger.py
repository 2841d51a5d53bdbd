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
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from harness.study.cells import Cell
from harness.study.grid import describe, levels
from harness.study.recipe import Scalar
from harness.study.spec import Study

METRIC = "held-out FVU"
CURVE = "heldout_fvu"

Point = dict[str, Any]
Result = dict[str, Any]


@dataclass
class _Entry:
    """A cell's trial. The id is the storage's own name for it: the only way to go on with a running trial."""

    number: int
    trial_id: int
    state: TrialState
    steps: set[int] = field(default_factory=set)  # points of the curve that it has

    @classmethod
    def of(cls, trial: FrozenTrial) -> _Entry:
        return cls(trial.number, trial._trial_id, trial.state, set(trial.intermediate_values))


class Ledger:
    """The trials of one study, by cell."""

    def __init__(self, storage: str, study: Study) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", ExperimentalWarning)  # of the metric's name, which only labels an axis
        choices = levels(study)
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(values) for name, values in choices.items()
        }
        self._cells: set[str] = set()  # that this sweep has asked for so far
        self._study = self._open(storage, study, _axes(study, choices))
        trials = self._study.get_trials(deepcopy=False)
        # A cell that was trained again, after a failure or since its folder is gone, has a new trial: it counts.
        self._entries = {trial.user_attrs["cell"]: _Entry.of(trial) for trial in trials}

    def _open(self, storage: str, study: Study, axes: str) -> optuna.Study:
        """The study in the storage. Where its axes are others now, it is made anew: Optuna lets none change."""
        sampler = optuna.samplers.RandomSampler()  # never asked: every trial's values are given
        opened = optuna.create_study(
            storage=storage, study_name=study.name, sampler=sampler, direction="minimize", load_if_exists=True
        )
        if opened.user_attrs.get("axes", axes) != axes:
            optuna.delete_study(study_name=study.name, storage=storage)
            return self._open(storage, study, axes)
        if "axes" not in opened.user_attrs:
            opened.set_metric_names([METRIC])
            opened.set_user_attr("question", study.question)
            opened.set_user_attr("axes", axes)
            from optuna_dashboard import save_note  # two seconds of imports that only a new study needs

            save_note(opened, f"# {study.name}\n\n{study.question}\n\nBaseline: {describe(study.baseline())}.")
        return opened

    def add(self, cell: Cell, result: Result | None, points: Sequence[Point]) -> bool:
        """Make sure that the cell has a trial; whether that is finished.

        It is finished where the cell's result is already there, unless it was waiting: Optuna ends no trial that
        it has not started.
        """
        self._cells.add(cell.id)
        entry = self._entries.get(cell.id)
        if entry is None or (entry.state.is_finished() and entry.state != _state(result)):
            self._add(cell, result, points)
        elif entry.state == TrialState.RUNNING and result is not None:
            self.report(cell.id, points)
            self.finish(cell.id, result)
        return self._entries[cell.id].state.is_finished()

    def _add(self, cell: Cell, result: Result | None, points: Sequence[Point]) -> None:
        trial = create_trial(
            state=_state(result),
            value=_value(result),
            params={**cell.arm, **cell.tuned},
            distributions=self._distributions,
            user_attrs={"cell": cell.id, "seed": cell.recipe.seed, "phase": cell.phase, **_attributes(result)},
            intermediate_values={p["step"]: p[CURVE] for p in points} if result else {},
        )
        self._study.add_trial(trial)
        self._entries[cell.id] = _Entry(-1, -1, trial.state)  # its number is known once it is asked for

    def start_next(self) -> str | None:
        """Mark the next waiting cell as running and say which it is; None when no cell waits.

        Optuna chooses. A trial of a cell that has not been added is left running, for `add` or `drop_others`.
        """
        while any(entry.state == TrialState.WAITING for entry in self._entries.values()):
            trial = self._study.ask()
            cell: str = trial.user_attrs["cell"]
            self._entries[cell] = _Entry(trial.number, trial._trial_id, TrialState.RUNNING)
            if cell in self._cells:
                return cell
        return None

    def drop_others(self) -> None:
        """Close the open trials of cells that have not been added, once all that are asked for have been."""
        for cell in self.running():
            if cell not in self._cells:
                self.finish(cell, {"state": "failed", "reason": "the study no longer asks for this cell"})

    def running(self) -> list[str]:
        """Cells whose trial is running, such as those that a killed controller left behind."""
        return [cell for cell, entry in self._entries.items() if entry.state == TrialState.RUNNING]

    def report(self, cell: str, points: Sequence[Point]) -> None:
        """Add points of the curve to a running trial; those already there stay."""
        entry = self._entries[cell]
        trial = Trial(self._study, entry.trial_id)
        for point in points:
            if point["step"] not in entry.steps:
                trial.report(point[CURVE], point["step"])
                entry.steps.add(point["step"])

    def finish(self, cell: str, result: Result) -> None:
        """Tell a running trial what its cell came to."""
        entry = self._entries[cell]
        trial = Trial(self._study, entry.trial_id)
        for name, value in _attributes(result).items():
            trial.set_user_attr(name, value)
        entry.state = _state(result)
        self._study.tell(entry.number, _value(result), state=entry.state)


def _axes(study: Study, choices: dict[str, list[Scalar]]) -> str:
    """Everything that what is said of a trial depends on, besides its cell."""
    more = {axis.name: dict(axis.bundles) for axis in study.axes if axis.bundles}
    return json.dumps([choices, more, study.tuning_seeds], sort_keys=True)


def _state(result: Result | None) -> TrialState:
    if result is None:
        return TrialState.WAITING
    return TrialState.COMPLETE if result["state"] == "complete" else TrialState.FAIL


def _value(result: Result | None) -> float | None:
    return result["heldout"]["fvu"] if result is not None and result["state"] == "complete" else None


def _attributes(result: Result | None) -> dict[str, Any]:
    """What the dashboard shows beside the value."""
    if result is None:
        return {}
    if result["state"] != "complete":
        return {"state": result["state"], "reason": result["reason"]}
    return {"state": "complete", "dead_fraction": result["heldout"]["dead_fraction"]}
