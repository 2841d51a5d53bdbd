"""From a study to its cells: designs -> settings of the axes -> recipes, each with an identity of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from harness.study.recipe import Recipe
from harness.study.spec import Setting, Study


@dataclass(frozen=True)
class Cell:
    """One arm with one seed, at one setting of the tuned axes: the unit that is trained."""

    id: str
    arm: Setting  # the untuned axes
    tuned: Setting
    recipe: Recipe


def settings(study: Study) -> list[Setting]:
    """Every setting of the axes that the design asks for, each once, in the order of the study file.

    An axis whose condition does not hold stands at the base recipe's value.
    """
    rows: list[Setting] = [asdict(study.base)]
    for axis in study.axes:
        rows = [{**row, axis.name: value} for row in rows for value in (axis.choices(row) or (row[axis.name],))]
    names = [axis.name for axis in study.axes]
    rows = [{name: row[name] for name in names} for row in rows]
    if study.design == "one_factor":
        baseline = study.baseline()
        rows = [row for row in rows if sum(row[name] != value for name, value in baseline.items()) <= 1]
    return rows


def recipes(study: Study) -> list[tuple[Setting, Recipe]]:
    """Each setting with its recipe (at seed 0). Raises UserError for a setting that cannot be trained."""
    pairs = []
    for setting in settings(study):
        try:
            pairs.append((setting, replace(study.base, **setting)))  # type: ignore[arg-type]
        except ValueError as failure:
            key, _, message = str(failure).partition(": ")
            raise study.file.error(("axes", key), f"{message} (in {describe(setting)})") from None
    return pairs


def cells(study: Study, source: str, code: str) -> list[Cell]:
    """The study's cells. `source` and `code` are fingerprints of the activations and of the training code."""
    tuned = {axis.name for axis in study.axes if axis.tune}
    found = []
    for (setting, recipe), seed in product(recipes(study), study.seeds):
        seeded = replace(recipe, seed=seed)
        found.append(
            Cell(
                id=cell_id(seeded, source, code),
                arm={name: value for name, value in setting.items() if name not in tuned},
                tuned={name: value for name, value in setting.items() if name in tuned},
                recipe=seeded,
            )
        )
    return found


def cell_id(recipe: Recipe, source: str, code: str) -> str:
    """12 hex digits that stand for everything a cell's result depends on."""
    return fingerprint({"recipe": asdict(recipe), "source": source, "code": code})[:12]


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def describe(setting: Setting) -> str:
    """`dense 2-2, penalty 0.1, adam`: numbers with the name of their axis, texts speak for themselves."""
    return ", ".join(v if isinstance(v, str) else f"{name} {v:g}" for name, v in setting.items())
