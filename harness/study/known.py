"""Which cells a study asks for, as far as the results that are there say.

Which settings are reported, how far a search goes, and which arms go on after a look all depend on results. So a
study's cells are a function of the results so far, computed from all of them each time. A sweep asks for what is
new until nothing is (`rounds`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.study.arms import Key, arms
from harness.study.cells import CellSpec, Phase, Score, cell_of
from harness.study.grid import levels
from harness.study.recipe import Scalar
from harness.study.search import ArmSearch, Extension
from harness.study.spec import Study


@dataclass(frozen=True)
class Known:
    """The cells that are known so far: the tuning cells, then the reported ones.

    to_come: cells that are asked for besides, of which it is not known yet which ones. final: whether no others
    can follow.
    """

    cells: list[CellSpec]
    to_come: int
    final: bool
    extensions: list[Extension]

    @property
    def size(self) -> int:
        """How many cells are asked for in total; at least, unless `final`."""
        return len(self.cells) + self.to_come

    @property
    def seeds(self) -> list[int]:
        """Those of the reported cells."""
        return list(dict.fromkeys(cell.recipe.seed for cell in self.cells if cell.phase == "reported"))


# Given all cells up to a look, which have ended, and the keys of the arms that got there: those that go on
GoOn = Callable[[Known, set[Key]], set[Key]]


def known(
    study: Study, source: str, score: Score = lambda cell: None, go_on: GoOn = lambda _, arms: arms
) -> Known:
    """The study's cells, given the scores of those that have ended.

    source: the fingerprint of the activations. By default, every arm goes on after a look.
    """
    searches = [ArmSearch(study, source, score, arm) for arm in arms(study)]
    for search in searches:
        if search.arm.tuning_cells:
            search.extend("tuning", study.tuning_seeds)
    going = searches
    for seeds in study.looks[:-1]:
        found = _with_reported(searches, going, seeds)
        if not found.final or any(score(cell.id) is None for cell in found.cells):
            return replace(found, final=False)
        names = go_on(found, {search.arm.key for search in going})
        if not (going := [search for search in going if search.arm.key in names]):
            return found
    return _with_reported(searches, going, study.seeds)


def _with_reported(searches: Sequence[ArmSearch], going: Sequence[ArmSearch], seeds: Sequence[int]) -> Known:
    """All cells, with those that the arms that go on have at these seeds."""
    for search in going:
        search.report(seeds)
    phases: tuple[Phase, ...] = ("tuning", "reported")
    return Known(
        cells=[cell for phase in phases for search in searches for cell in search.cells(phase)],
        to_come=sum(search.to_come for search in searches),
        final=all(search.settled for search in going),
        extensions=[extension for search in searches for extension in search.extensions()],
    )


def rounds(known: Callable[[Score], Known], score: Score) -> Iterator[tuple[list[CellSpec], Known]]:
    """The cells that can be trained next, with what is known by then, until nothing is new.

    They must have ended before the generator goes on.

    A result counts once its round has come, even if it is there already. So the rounds are always those of an
    undisturbed sweep, and with them the order of the cells, by which some are pruned.
    """
    seen: set[str] = set()

    def so_far(cell: str) -> float | None:
        return score(cell) if cell in seen else None

    while True:
        found = known(so_far)
        new = [cell for cell in found.cells if cell.id not in seen]
        if not new:
            return
        yield new, found
        seen |= {cell.id for cell in new}


def size(study: Study) -> int:
    """How many cells the study asks for at least."""
    return sum(arm.tuning_cells + arm.reported_cells for arm in arms(study))


def possible_cells(study: Study, source: str) -> list[CellSpec]:
    """All cells that the study can come to ask for, whatever the results are."""
    phases: tuple[tuple[Phase, Sequence[int]], ...] = (("tuning", study.tuning_seeds), ("reported", study.seeds))
    return [
        cell_of(arm.levels, tuned, replace(recipe, seed=seed), phase, source)
        for phase, seeds in phases
        for arm in arms(study)
        if phase == "reported" or arm.tuning_cells
        for tuned, recipe in [*zip(arm.tuned, arm.recipes, strict=True), *arm.beyond.values()]
        for seed in seeds
    ]


def asked_levels(study: Study, extensions: Sequence[Extension]) -> dict[str, list[Scalar]]:
    """All levels of each axis: those of the study file, then those that were added."""
    found = levels(study)
    for extension in extensions:
        of_axis = found[extension.axis]
        of_axis += [value for value in extension.added if value not in of_axis]
    return found
