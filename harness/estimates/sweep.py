"""The cells of a study that are left, and how long a sweep of them takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.study.arms import ArmSpec
from harness.study.cells import CellSpec, Phase
from harness.study.recipe import Recipe
from harness.study.spec import Study
from harness.sweep.cohorts import LARGEST

START = 5.0  # seconds of a sweep that does nothing: processes, databases, results (docs/benchmarks.md)
BESIDE = 0.04  # of the cells' own seconds: batches, messages, waiting for the last cell


@dataclass(frozen=True)
class Left:
    """A cell that has no result yet.

    recipes: its own, or, where it is not chosen yet which of its arm is trained, all that may be. left: share of
    its training that is still to come.
    """

    phase: Phase
    recipes: Sequence[Recipe]
    seed: int
    left: float = 1.0

    def mean(self, of: Callable[[Recipe], float]) -> float:
        """Of what is still to come."""
        return self.left * fmean(of(recipe) for recipe in self.recipes)


def cells_left(
    study: Study,
    arms: Iterable[ArmSpec],
    cells: Sequence[CellSpec],
    done: Container[str],
    share: Callable[[str], float],
) -> list[Left]:
    """Each cell without a result; `cells`: those that are known. share: of a cell's training that is to come."""
    found = [
        Left(cell.phase, [cell.recipe], cell.recipe.seed, share(cell.id)) for cell in cells if cell.id not in done
    ]
    known = Counter((cell.phase, *cell.arm.values()) for cell in cells)
    for arm in arms:
        if arm.tuning_cells and not known["tuning", *arm.levels.values()]:
            found += [Left("tuning", [recipe], seed) for recipe in arm.recipes for seed in study.tuning_seeds]
        if not known["reported", *arm.levels.values()]:
            tried = [arm.recipes] if study.tuning_seeds else [[recipe] for recipe in arm.recipes]
            found += [Left("reported", recipes, seed) for recipes in tried for seed in study.looks[0]]
    return found


def more_at_most(study: Study, arms: Iterable[ArmSpec], cells: Sequence[CellSpec]) -> list[Left]:
    """The cells that results can ask for besides those that are known: at extended lists, and after looks."""
    known = Counter((cell.phase, *cell.arm.values()) for cell in cells)
    found = []
    for arm in arms:
        least: dict[Phase, int] = {"tuning": arm.tuning_cells, "reported": arm.reported_cells}
        most: dict[Phase, int] = {"tuning": arm.most_tuning_cells, "reported": arm.most_reported_cells}
        for phase, count in most.items():
            others = count - max(least[phase], known[phase, *arm.levels.values()])
            seeds = study.tuning_seeds if phase == "tuning" else study.seeds
            found += [Left(phase, arm.recipes, seeds[number % len(seeds)]) for number in range(others)]
    return found


def passes(cells: Iterable[Left]) -> float:
    """Tokens of text that a language model runs over, where it feeds these cells: once for every cohort."""
    groups: dict[tuple[int, int, Phase], list[Left]] = {}
    for cell in cells:
        groups.setdefault((cell.recipes[0].batch, cell.seed, cell.phase), []).append(cell)
    return sum(
        math.ceil(len(group) / LARGEST) * max(cell.mean(lambda recipe: float(recipe.tokens)) for cell in group)
        for group in groups.values()
    )


def wall(seconds: Sequence[float], workers: int) -> float:
    """Seconds of a sweep of cells that take so long each."""
    if not seconds:
        return 0.0
    return START + max(max(seconds), (1 + BESIDE) * sum(seconds) / workers)
