"""What a study asks for, in a form that can be stored, and what an edit of its file has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, replace
from typing import Any

from harness.study.axes import Setting
from harness.study.cells import arms, fingerprint
from harness.study.labels import describe
from harness.study.recipe import RECIPE_FIELDS, Recipe
from harness.study.spec import Study

Asked = dict[str, Any]  # plain data: the training code, the activations if they are there, and the cells by key


def asked(study: Study, source: str | None, code: str) -> Asked:
    """What the study asks for now; `source` and `code` are fingerprints of the activations and the training code.

    A reported cell whose setting is chosen at tuning seeds is one cell here, whichever setting is chosen.
    """
    cells = {fingerprint(cell["recipe"]): cell for cell in _cells(study)}
    return {"code": code, "source": source, "cells": cells}


def _cells(study: Study) -> Iterator[Asked]:
    """recipe: fields that are not at their defaults. levels: axes, and fields in no bundle, which name an edit."""
    tuned_fields = {f for axis in study.axes if axis.tune for level in axis.levels() for f in axis.fields(level)}
    bundled = {f for axis in study.axes for fields in axis.bundles.values() for f in fields}

    def cell(recipe: Recipe, levels: Setting, seed: int, leave_out: Iterable[str] = ()) -> Asked:
        values = asdict(replace(recipe, seed=seed))
        known = {name: value for name, value in values.items() if name not in leave_out and _said(name, value)}
        return {"recipe": known, "levels": {**_without(known, bundled), **levels, "seed": seed}}

    for arm in arms(study):
        for tuned, recipe in zip(arm.tuned, arm.recipes, strict=True):
            levels = {**arm.levels, **tuned}
            seeds = study.tuning_seeds if arm.tuning_cells else study.seeds
            yield from (cell(recipe, levels, seed) for seed in seeds)
        if arm.tuning_cells:
            chosen_later = {*tuned_fields, *arm.tuned[0]}
            yield from (cell(arm.recipes[0], arm.levels, seed, chosen_later) for seed in study.seeds)


def _said(name: str, value: object) -> bool:
    default = RECIPE_FIELDS[name].default
    return name == "seed" or default is MISSING or value != default


def _without(values: Setting, names: set[str]) -> Setting:
    return {name: value for name, value in values.items() if name not in names}


@dataclass(frozen=True)
class Edits:
    """What is asked for now, compared with the last run."""

    added: int
    dropped: int
    unchanged: int
    gained: str  # values that only the new cells have, such as `optimizer muon, seed 2`
    lost: str  # values that only the old cells had
    code: bool  # whether the training code has changed
    source: bool  # whether the activations have changed

    def lines(self) -> list[str]:
        """Lines for the user; none if nothing has changed."""
        lines = []
        changed = [what for what, is_new in (("training code", self.code), ("activations", self.source)) if is_new]
        if changed:
            lines.append(f"the {' and the '.join(changed)} changed since the last run: every cell is new")
        if self.added or self.dropped:
            parts = [f"+ {_cells_of(self.added, self.gained)}"] if self.added else []
            if self.dropped:
                parts.append(f"{_cells_of(self.dropped, self.lost)} no longer asked for (their results are kept)")
            lines.append("study edited since the last run: " + " · ".join([*parts, f"{self.unchanged} unchanged"]))
        return lines


def _cells_of(count: int, what: str) -> str:
    return f"{count} cell{'s' if count != 1 else ''}{f' ({what})' if what else ''}"


def edits(before: Asked, now: Asked) -> Edits:
    """What has changed. Activations count as unchanged if one side has none."""
    old, new = before["cells"], now["cells"]
    gained, lost = _differences(old, new, "levels")
    if old.keys() != new.keys() and not gained + lost:  # what a named setting stands for, say
        gained, lost = _differences(old, new, "recipe")
    return Edits(
        added=len(new.keys() - old.keys()),
        dropped=len(old.keys() - new.keys()),
        unchanged=len(old.keys() & new.keys()),
        gained=", ".join(gained),
        lost=", ".join(lost),
        code=before["code"] != now["code"],
        source=None not in (before["source"], now["source"]) and before["source"] != now["source"],
    )


def _differences(old: Asked, new: Asked, of: str) -> tuple[list[str], list[str]]:
    """Values that only the new cells have, and those that only the old ones have."""
    before, now = _values(old, of), _values(new, of)
    return _only(now, before), _only(before, now)


def _values(cells: Asked, of: str) -> dict[str, dict[Any, None]]:
    found: dict[str, dict[Any, None]] = {}
    for cell in cells.values():
        for name, value in cell[of].items():
            found.setdefault(name, {})[value] = None
    return found


def _only(these: dict[str, dict[Any, None]], those: dict[str, dict[Any, None]]) -> list[str]:
    return [
        describe({name: value}) if isinstance(value, int | float | None) else f"{name} {value}"
        for name, values in these.items()
        for value in values
        if value not in those.get(name, [_default(name)])
    ]


def _default(name: str) -> Any:
    """The value of `name` in cells that do not state it."""
    return RECIPE_FIELDS[name].default if name in RECIPE_FIELDS else None
