"""A cell as a trial in Optuna and its dashboard."""

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
from harness.study.cells import CellSpec
from harness.study.extension import possible_levels
from harness.study.labels import describe
from harness.study.recipe import RECIPE_FIELDS, Scalar
from harness.study.spec import Study

CURVE = "heldout_fvu"
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}  # of any other result: FAIL

Point = dict[str, Any]
Result = dict[str, Any]


def distributions(study: Study) -> dict[str, BaseDistribution]:
    """How the dashboard draws each axis: numbers on a numeric axis, texts in the order of the study file.

    With the values that a search may add, since in Optuna a range cannot grow.
    """
    return {name: distribution(values) for name, values in possible_levels(study).items()}


def distribution(values: Sequence[Scalar]) -> BaseDistribution:
    """A logarithmic range for positive numbers, which a later edit of the study may widen.

    Otherwise categories: numbers in numerical order (if some are not positive), anything else in the order of the
    study file.
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return CategoricalDistribution(list(values))
    if min(numbers) <= 0:  # the dashboard's contour plots leave out a numeric zero
        return CategoricalDistribution(sorted(numbers))
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(min(numbers)), int(max(numbers)), log=True)
    return FloatDistribution(min(numbers), max(numbers), log=True)


def fixed(study: Study) -> str:
    """What cannot be changed in an Optuna study, as text: its axes, named settings and tuning seeds."""
    kinds = {
        name: kind.choices if isinstance(kind, CategoricalDistribution) else type(kind).__name__
        for name, kind in distributions(study).items()
    }
    bundles = {axis.name: dict(axis.bundles) for axis in study.axes if axis.bundles}
    return json.dumps([kinds, bundles, study.tuning_seeds], sort_keys=True)


def trial_of(
    cell: CellSpec, axes: dict[str, BaseDistribution], result: Result | None, points: Sequence[Point]
) -> FrozenTrial:
    """The trial of a cell: finished if it has a result, otherwise waiting."""
    return create_trial(
        state=state_of(result),
        value=value_of(result),
        params={**cell.arm, **cell.tuned},
        distributions=axes,
        user_attrs={
            "cell": cell.id,
            **labels(cell),
            "seed": cell.recipe.seed,
            **_recipe(cell),
            **attributes(result),
        },
        intermediate_values={p["step"]: p[CURVE] for p in points if CURVE in p} if result else {},
    )


def labels(cell: CellSpec) -> dict[str, str]:
    """What an edit of the study may call otherwise, although the cell and the axes are the same."""
    return {"arm": describe(cell.arm), "phase": cell.phase}


def _recipe(cell: CellSpec) -> dict[str, Scalar]:
    """Recipe fields that are not parameters of the trial and not at their defaults: `latents`, `k`, ..."""
    shown = {"seed", *cell.arm, *cell.tuned}
    values = {name: value for name, value in asdict(cell.recipe).items() if name not in shown}
    return {name: value for name, value in values.items() if value != RECIPE_FIELDS[name].default}


def state_of(result: Result | None) -> TrialState:
    if result is None:
        return TrialState.WAITING
    if result["state"] == "complete" and value_of(result) is None:
        return TrialState.FAIL  # a figure that is not finite counts as diverged in the tables, too
    return STATES.get(result["state"], TrialState.FAIL)


def value_of(result: Result | None) -> float | None:
    """Held-out FVU when training ended, if the cell has one."""
    if result is None or result["state"] != "complete" or not math.isfinite(result["score"]):
        return None
    return float(result["score"])


def attributes(result: Result | None) -> dict[str, Any]:
    """What the dashboard shows in addition to the value."""
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
