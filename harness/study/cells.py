"""A cell: what is trained once, with its identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from harness.study.axes import Setting
from harness.study.identity import cell_id
from harness.study.labels import describe
from harness.study.recipe import Recipe

Phase = Literal["tuning", "reported"]
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


def cell_of(arm: Setting, tuned: Setting, recipe: Recipe, phase: Phase, source: str) -> CellSpec:
    """The cell of this recipe. source: the fingerprint of the activations."""
    return CellSpec(_id(recipe, source), arm, tuned, recipe, phase)


@lru_cache(maxsize=2**18)  # a study's cells are asked for again after every round
def _id(recipe: Recipe, source: str) -> str:
    return cell_id(recipe, source)
