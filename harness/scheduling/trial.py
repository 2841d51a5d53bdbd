"""A cell as a trial: what Optuna holds of it, and what its dashboard shows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.metrics import FVU, metrics_at
from harness.study.cells import Cell
from harness.study.grid import describe, levels
from harness.study.recipe import RECIPE_FIELDS, Scalar
from harness.study.spec import Study

CURVE = "heldout_fvu"
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}  # of a result; of any other: FAIL

Point = dict[str, Any]
Result = dict[str, Any]


def distributions(study: Study) -> dict[str, BaseDistribution]:
    """How the dashboard draws each axis: numbers on an axis of numbers, words in the order of the study file."""
    return {name: distribution(values) for name, values in levels(study).items()}


def distribution(values: Sequence[Scalar]) -> BaseDistribution:
    """The range of positive numbers, on a logarithmic scale, to which a later edit may add others.

    Anything else is a category, in the order of the study file, but for numbers of which some are not positive:
    these are in numerical order.
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return CategoricalDistribution(list(values))
    if min(numbers) <= 0:  # no logarithm; the dashboard's contours leave out a zero that is a number
        return CategoricalDistribution(sorted(numbers))
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(min(numbers)), int(max(numbers)), log=True)
    return FloatDistribution(min(numbers), max(numbers), log=True)


def fixed(study: Study) -> str:
    """What Optuna lets nobody change in a study, and what its trials say besides of their cells."""
    kinds = {
        name: kind.choices if isinstance(kind, CategoricalDistribution) else type(kind).__name__
        for name, kind in distributions(study).items()
    }
    bundles = {axis.name: dict(axis.bundles) for axis in study.axes if axis.bundles}
    return json.dumps([kinds, bundles, study.tuning_seeds], sort_keys=True)


def trial_of(
    cell: Cell, axes: dict[str, BaseDistribution], result: Result | None, points: Sequence[Point]
) -> FrozenTrial:
    """The trial of a cell: finished where it has a result, else waiting."""
    return create_trial(
        state=state_of(result),
        value=value_of(result),
        params={**cell.arm, **cell.tuned},
        distributions=axes,
        user_attrs={
            "cell": cell.id,
            "arm": describe(cell.arm),
            "seed": cell.recipe.seed,
            "phase": cell.phase,
            **_recipe(cell),
            **attributes(result),
        },
        intermediate_values={p["step"]: p[CURVE] for p in points} if result else {},
    )


def _recipe(cell: Cell) -> dict[str, Scalar]:
    """What the recipe says besides the trial's parameters, but for defaults: `latents`, `k`, `tokens`, ..."""
    shown = {"seed", *cell.arm, *cell.tuned}
    values = {name: value for name, value in asdict(cell.recipe).items() if name not in shown}
    return {name: value for name, value in values.items() if value != RECIPE_FIELDS[name].default}


def state_of(result: Result | None) -> TrialState:
    if result is None:
        return TrialState.WAITING
    if result["state"] == "complete" and value_of(result) is None:
        return TrialState.FAIL  # a figure that is no number counts as diverged in the tables, too
    return STATES.get(result["state"], TrialState.FAIL)


def value_of(result: Result | None) -> float | None:
    """Held-out FVU, if the cell has come to one."""
    if result is None or result["state"] != "complete" or not math.isfinite(result["heldout"]["fvu"]):
        return None
    return float(result["heldout"]["fvu"])


def attributes(result: Result | None) -> dict[str, Any]:
    """What the dashboard shows beside the value."""
    if result is None:
        return {}
    retries = {"retries": result["retries"]} if result.get("retries") else {}
    if result["state"] != "complete":
        return {"state": result["state"], "reason": result["reason"], **retries}
    return {"state": "complete", **_figures(result.get("heldout") or {}), **retries}


def _figures(heldout: dict[str, float | None]) -> dict[str, float]:
    """All final figures but FVU, which is the trial's value."""
    known = {m.name: heldout.get(m.name) for m in metrics_at("final") if m != FVU}
    return {name: value for name, value in known.items() if value is not None and math.isfinite(value)}
