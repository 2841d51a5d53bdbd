"""The search for an arm's best tuned setting, which may go on beyond the lists of the study file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.study.arms import ArmSpec, Key, key
from harness.study.axes import Axis, Setting
from harness.study.cells import CellSpec, Phase, Score, cell_of
from harness.study.extension import ladder
from harness.study.recipe import Recipe, Scalar
from harness.study.spec import Study
from harness.study.tuned_choice import Choice, choose

Ended = Literal["best inside", "limit", "no further value", "nothing to compare"]


@dataclass(frozen=True)
class Extension:
    """What was added to an arm's list of a tuned axis, in this order, and why no more was."""

    axis: str
    arm: Setting
    added: tuple[Scalar, ...]
    ended: Ended


class ArmSearch:
    """One arm: the settings at which it has been tried so far, and its cells.

    It is a function of the scores, computed from the start each time.

    settled: whether no cell follows at the seeds so far. to_come: reported cells whose setting is not chosen yet.
    """

    def __init__(self, study: Study, source: str, score: Score, arm: ArmSpec) -> None:
        self.arm = arm
        self.settled = True
        self.to_come = 0
        self._study = study
        self._source = source
        self._score = score
        settings = zip(arm.tuned, arm.recipes, strict=True)
        self._tried: dict[Key, tuple[Setting, Recipe]] = {
            key(tuned): (tuned, recipe) for tuned, recipe in settings
        }
        self._cells: dict[tuple[Key, int], CellSpec] = {}  # by setting and seed
        self._added: dict[str, list[Scalar]] = {}  # by axis
        self._choice: Choice[Key] | None = None

    def cells(self, phase: Phase) -> list[CellSpec]:
        """Its cells, setting by setting."""
        places = {name: place for place, name in enumerate(self._tried)}
        cells = sorted(self._cells.items(), key=lambda item: places[item[0][0]])
        return [cell for _, cell in cells if cell.phase == phase]

    def report(self, seeds: Sequence[int]) -> None:
        """Add its reported cells at these seeds."""
        if not self.arm.tuning_cells:
            self.extend("reported", seeds)
        elif self.settled:
            self._train("reported", self._best(), seeds)
        else:
            self.to_come = len(seeds)

    def extend(self, phase: Phase, seeds: Sequence[int]) -> None:
        """Add cells at all its settings, and at those beyond its lists as long as it is best at an end of one."""
        new: Iterable[Key] = list(self._tried)
        while new:
            self._train(phase, new, seeds)
            if phase == "reported" and not self.arm.beyond:
                return  # nothing follows, whatever the scores are
            self._choice = self._choose(seeds, seeds if phase == "tuning" else ())
            if self._choice is None:
                self.settled = False
                return
            new = self._go_beyond()

    def extensions(self) -> Iterator[Extension]:
        """What was added on each axis; also where nothing was, though it is best at an end of its list."""
        if self._choice is None:
            return
        ends = {axis.name for name in self._best() for axis, _ in self._ends(name)}
        for axis in self._study.axes:
            added = tuple(self._added.get(axis.name, ()))
            if added or axis.name in ends:
                yield Extension(axis.name, self.arm.levels, added, self._why(axis, len(added), axis.name in ends))

    def _why(self, axis: Axis, added: int, at_end: bool) -> Ended:
        if self._choice is None or self._choice.selection == "unselected":
            return "nothing to compare"
        if not at_end:
            return "best inside"
        return "limit" if added >= axis.extend else "no further value"

    def _train(self, phase: Phase, settings: Iterable[Key], seeds: Sequence[int]) -> None:
        for name in settings:
            tuned, recipe = self._tried[name]
            for seed in seeds:
                if (name, seed) not in self._cells:
                    spec = cell_of(self.arm.levels, tuned, replace(recipe, seed=seed), phase, self._source)
                    self._cells[name, seed] = spec

    def _choose(self, seeds: Sequence[int], tuning_seeds: Sequence[int]) -> Choice[Key] | None:
        """The settings at which it is best; None before all its cells have ended."""
        scores: dict[Key, dict[int, float]] = {name: {} for name in self._tried}
        for name, row in scores.items():
            for seed in seeds:
                if (score := self._score(self._cells[name, seed].id)) is None:
                    return None
                row[seed] = score
        return choose(scores, seeds, tuning_seeds)

    def _best(self) -> list[Key]:
        """The settings at which it is reported: one, or, where seeds are cross-fitted, one for each seed."""
        assert self._choice is not None
        return list(dict.fromkeys([self._choice.shown, *self._choice.by_seed.values()]))

    def _go_beyond(self) -> list[Key]:
        """Add the settings that follow those at which it is best, and return them."""
        if self._choice is None or self._choice.selection == "unselected":
            return []
        new = []
        for name in self._best():
            for axis, value in list(self._ends(name)):
                added = self._added.setdefault(axis.name, [])
                setting = {**self._tried[name][0], axis.name: value}
                if key(setting) in self.arm.beyond and (value in added or len(added) < axis.extend):
                    self._tried[key(setting)] = self.arm.beyond[key(setting)]
                    added += [value] * (value not in added)
                    new.append(key(setting))
        return new

    def _ends(self, name: Key) -> Iterator[tuple[Axis, float | None]]:
        """The axes on which a setting is at an end of the tried values, and the value beyond it, if any."""
        setting = self._tried[name][0]
        for axis in self._study.axes:
            choices = axis.choices({**self.arm.levels, **setting})
            steps: list[Scalar] = [*ladder(axis, choices)]
            if axis.name not in setting or setting[axis.name] not in steps:
                continue
            same_list = [s for s, _ in self._tried.values() if axis.choices({**self.arm.levels, **s}) == choices]
            tried = [steps.index(s[axis.name]) for s in same_list if s[axis.name] in steps]
            place = steps.index(setting[axis.name])
            if place == min(tried):
                yield axis, ladder(axis, choices)[place - 1] if place else None
            if place == max(tried):
                yield axis, ladder(axis, choices)[place + 1] if place + 1 < len(steps) else None
