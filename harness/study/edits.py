"""What a study asks for, in a form that can be stored, and what an edit of its file has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, replace
from typing import Any

from harness.fingerprint import fingerprint
from harness.study.arms import arms
from harness.study.axes import Setting
from harness.study.identity import code_of, inert
from harness.study.labels import describe
from harness.study.recipe import RECIPE_FIELDS, Recipe
from harness.study.spec import Study

Asked = dict[str, Any]  # plain data: the activations if they are there, and the cells by key


def asked(study: Study, source: str | None) -> Asked:
    """What the study asks for now; `source` is the fingerprint of the activations.

    A reported cell whose setting is chosen at tuning seeds is one cell here, whichever setting is chosen.
    """
    return {"source": source, "cells": {fingerprint(cell["recipe"]): cell for cell in _cells(study)}}


def _cells(study: Study) -> Iterator[Asked]:
    """`recipe`: what is no default and does something. `levels`: what an edit is named by: axes, and fields of no
    bundle. `code`: the fingerprint of the code that trains it, whichever setting is chosen."""
    tuned_fields = {f for axis in study.axes if axis.tune for level in axis.levels() for f in axis.fields(level)}
    bundled = {f for axis in study.axes for fields in axis.bundles.values() for f in fields}

    def cell(recipe: Recipe, levels: Setting, seed: int, code: str, leave_out: Iterable[str] = ()) -> Asked:
        values = asdict(replace(recipe, seed=seed))
        silent = {*leave_out, *inert(recipe)}
        known = {name: value for name, value in values.items() if name not in silent and _is_set(name, value)}
        return {"recipe": known, "levels": {**_without(known, bundled), **levels, "seed": seed}, "code": code}

    for arm in arms(study):
        for tuned, recipe in zip(arm.tuned, arm.recipes, strict=True):
            levels = {**arm.levels, **tuned}
            seeds = study.tuning_seeds if arm.tuning_cells else study.seeds
            yield from (cell(recipe, levels, seed, code_of(recipe)[:12]) for seed in seeds)
        if arm.tuning_cells:
            chosen_later = {*tuned_fields, *arm.tuned[0]}
            code = fingerprint([code_of(recipe) for recipe in arm.recipes])[:12]
            yield from (cell(arm.recipes[0], arm.levels, seed, code, chosen_later) for seed in study.seeds)


def _is_set(name: str, value: object) -> bool:
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
    gained: str  # what only cells have that are asked for now, as in `optimizer muon, seed 2`
    lost: str  # what only cells had that were asked for then
    recoded: int  # cells whose training code is another; of those that are unchanged in the study
    source: bool  # whether the activations are others

    def lines(self) -> list[str]:
        """Lines for the user; none if nothing has changed."""
        lines = []
        what = ["training code"] * bool(self.recoded) + ["activations"] * self.source
        if what:
            all_new = self.source or self.recoded == self.unchanged
            new = (
                "every cell is a new one" if all_new else f"{self.recoded} of {self.unchanged} cells are new ones"
            )
            lines.append(f"since the last run the {' and the '.join(what)} changed: {new}")
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
        recoded=sum(old[key].get("code") != new[key]["code"] for key in old.keys() & new.keys()),
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
