"""From a study to its cells: which ones there are, in which phase, each with its identity.

A study with tuning seeds is run in two phases: at these seeds every setting of an arm is trained, and then only
the best of them at the reported seeds. Without tuning seeds there is one phase, with every setting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from harness.study.axes import Setting
from harness.study.grid import recipes
from harness.study.identity import cell_id
from harness.study.labels import describe
from harness.study.recipe import Recipe, Scalar
from harness.study.spec import Study
from harness.study.tuned_choice import best_setting

Phase = Literal["tuning", "reported"]
Key = tuple[Scalar, ...]  # the levels of an arm, or of its tuned axes
Score = Callable[[str], float | None]  # cell id -> held-out FVU, infinite for a lost cell; None: not ended yet


@dataclass(frozen=True)
class CellSpec:
    """One arm with one seed, at one setting of the tuned axes: the unit that is trained."""

    id: str
    arm: Setting  # the untuned axes
    tuned: Setting
    recipe: Recipe
    phase: Phase

    @property
    def label(self) -> str:
        """The cell in words, as in `dense 2-2, lr 0.001, seed 0`."""
        return f"{describe({**self.arm, **self.tuned})}, seed {self.recipe.seed}"


@dataclass(frozen=True)
class ArmSpec:
    """One setting of the untuned axes, and the tuned settings that are tried with it."""

    levels: Setting
    tuned: list[Setting]  # of the tuned axes
    recipes: list[Recipe]  # of each of these, at seed 0
    tuning_cells: int
    reported_cells: int


def arms(study: Study) -> list[ArmSpec]:
    """The arms of a study, in its order. Raises UserError for a setting that cannot be trained."""
    groups: dict[Key, list[tuple[Setting, Setting, Recipe]]] = {}
    for setting, recipe in recipes(study):
        levels, tuned = _split(study, setting)
        groups.setdefault(_key(levels), []).append((levels, tuned, recipe))
    found = []
    for group in groups.values():
        tried = len(group)
        chosen = 1 if study.tuning_seeds else tried
        tuning = tried * len(study.tuning_seeds) if tried > 1 else 0
        found.append(
            ArmSpec(
                levels=group[0][0],
                tuned=[tuned for _, tuned, _ in group],
                recipes=[recipe for _, _, recipe in group],
                tuning_cells=tuning,
                reported_cells=chosen * len(study.seeds),
            )
        )
    return found


def size(study: Study) -> int:
    """How many cells the study asks for in total, even if it is not known yet which."""
    return sum(arm.tuning_cells + arm.reported_cells for arm in arms(study))


def tuning_cells(study: Study, source: str) -> list[CellSpec]:
    """The cells that choose: every setting of each arm that has several, at the tuning seeds.

    `source` is the fingerprint of the activations.
    """
    searched = {_key(arm.levels) for arm in arms(study) if arm.tuning_cells}
    found = _expand(study, study.tuning_seeds, "tuning", source)
    return [cell for cell in found if _key(cell.arm) in searched]


def cells(study: Study, source: str, score: Score = lambda cell: None) -> list[CellSpec]:
    """The study's cells as far as they are known: the tuning cells, then the reported ones.

    The reported cells of an arm with tuning cells are known once all of these have ended.
    """
    tuning = tuning_cells(study, source)
    chosen = _choose(tuning, score)
    reported = _expand(study, study.seeds, "reported", source)
    return tuning + [c for c in reported if chosen.get(_key(c.arm), _key(c.tuned)) == _key(c.tuned)]


def possible_cells(study: Study, source: str) -> list[CellSpec]:
    """All cells that the study can come to ask for, whichever settings are chosen at its tuning seeds."""
    return tuning_cells(study, source) + _expand(study, study.seeds, "reported", source)


def _choose(tuning: list[CellSpec], score: Score) -> dict[Key, Key | None]:
    """The best tuned setting of each arm that has tuning cells; None before they have all ended.

    The first one if nothing can be compared: the tables then call the arm unselected.
    """
    scores: dict[Key, dict[Key, dict[int, float | None]]] = {}
    for cell in tuning:
        scores.setdefault(_key(cell.arm), {}).setdefault(_key(cell.tuned), {})[cell.recipe.seed] = score(cell.id)
    return {arm: _best(by_setting) for arm, by_setting in scores.items()}


def _best(scores: dict[Key, dict[int, float | None]]) -> Key | None:
    ended = {
        setting: {seed: score for seed, score in by_seed.items() if score is not None}
        for setting, by_seed in scores.items()
    }
    if ended != scores:
        return None
    best = best_setting(ended, sorted({seed for by_seed in ended.values() for seed in by_seed}))
    return next(iter(ended)) if best is None else best


def _expand(study: Study, seeds: tuple[int, ...], phase: Phase, source: str) -> list[CellSpec]:
    """Every setting at every one of `seeds`."""
    found = []
    for (setting, recipe), seed in product(recipes(study), seeds):
        seeded = replace(recipe, seed=seed)
        found.append(CellSpec(cell_id(seeded, source), *_split(study, setting), seeded, phase))
    return found


def _split(study: Study, setting: Setting) -> tuple[Setting, Setting]:
    """The levels of the untuned axes, and of the tuned ones."""
    tuned = {axis.name for axis in study.axes if axis.tune}
    arm = {name: level for name, level in setting.items() if name not in tuned}
    return arm, {name: level for name, level in setting.items() if name in tuned}


def _key(setting: Setting) -> Key:
    return tuple(setting.values())
