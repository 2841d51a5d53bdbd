"""Seconds of a training step by recipe: measured where a recipe like it was, elsewhere estimated.

Estimates are scaled by what the measured recipes came to, so that a few of them say how fast the machine is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from statistics import median
from typing import Any

from harness.study.curve import EVERY, curve_tokens
from harness.study.recipe import Recipe
from harness.study.step_time import FORWARD

Kind = tuple[Any, ...]  # of recipes whose steps take equally long
Step = Callable[[Recipe], float]

# Fields that change nothing in how long a step takes, or no more than by being there at all.
TIMELESS = {"seed", "lr", "tokens", "warmup", "decay", "weight_decay", "dead_window", "aux_weight"}
WEIGHTS = {"penalty", "sparsity"}
SETUP = 0.1  # seconds of a cell outside of its steps: weights, curve, checkpoint, files


def kind(recipe: Recipe) -> Kind:
    """What a recipe has in common with those whose steps take as long."""
    values = ((f.name, getattr(recipe, f.name)) for f in fields(recipe) if f.name not in TIMELESS)
    return tuple(bool(value) if name in WEIGHTS else value for name, value in values)


class StepTimes:
    """Seconds of a step of any recipe."""

    def __init__(self, estimate: Step, measured: Mapping[Kind, tuple[Recipe, float]]) -> None:
        """`measured`: by kind, one of its recipes and the seconds of a step; empty where nothing was measured."""
        self._estimate = estimate
        self._measured = {kind: seconds for kind, (_, seconds) in measured.items()}
        ratios = [seconds / estimate(recipe) for recipe, seconds in measured.values()]
        self._scale = median(ratios) if ratios else 1.0

    def __call__(self, recipe: Recipe) -> float:
        known = self._measured.get(kind(recipe))
        return self._scale * self._estimate(recipe) if known is None else known


def steps_of(recipe: Recipe, held_out: int, points: int) -> float:
    """How many training steps take as long as a cell: its own, and those that coding held-out tokens is worth.

    held_out: tokens that it is measured on in the end. points: of its curve.
    """
    coded = held_out + points // EVERY * curve_tokens(recipe)
    return recipe.steps + FORWARD * coded / recipe.batch


def ratios(
    cells: Iterable[tuple[Recipe, Mapping[str, Any]]],
    runs_here: Callable[[Mapping[str, Any]], bool],
    estimate: Callable[[Recipe], float],
) -> dict[Kind, float]:
    """What cells took, relative to what they were estimated to take, from their results: the median of each kind.

    Only of cells that were trained to their end, whole batches at a time, where `runs_here` says that the result
    is of such a machine as is asked about. A diverged or pruned cell ended after a few steps, which says nothing
    of the others; a failed one has no result. A resumed one counts with all of its sessions.
    """
    found: dict[Kind, list[float]] = {}
    for recipe, result in cells:
        whole = result["state"] == "complete" and result.get("micro_batches", 1) == 1
        if whole and result.get("seconds", 0) > 0 and runs_here(result):
            found.setdefault(kind(recipe), []).append(result["seconds"] / estimate(recipe))
    return {kind: median(each) for kind, each in found.items()}
