"""Which arms of different studies train the same recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any

from harness.analysis.results.levels import Level
from harness.analysis.results.records import StudyRecord
from harness.errors import SettingError
from harness.fingerprint import fingerprint
from harness.study.identity import decisive
from harness.study.recipe import RECIPE_FIELDS, Recipe


def arm_identity(study: StudyRecord, levels: Mapping[str, Level], *, searched: bool) -> str:
    """Equal for arms with the same recipe and activations, at whichever seeds.

    levels: of all axes. searched: whether the arm has several tuned settings; then it does not matter which ones.
    """
    fields = _fields(study, levels)
    tuned = {field for axis in study.tuned for field in _set_by(study, axis)} if searched else set()
    try:
        recipe = decisive(Recipe(**fields))
    except (SettingError, TypeError):  # of an older recipe: then as it is written
        recipe = fields
    rest = {name: value for name, value in recipe.items() if name not in tuned}
    return fingerprint({"recipe": rest, "tuned": sorted(tuned), "source": study.source.get("fingerprint")})


def _fields(study: StudyRecord, levels: Mapping[str, Level]) -> dict[str, Any]:
    """The recipe fields at these levels."""
    fields = {name: value for name, value in study.recipe.items() if name in RECIPE_FIELDS}
    for axis in study.settings:
        # `recipe` is the baseline's: what its named setting says is not so at others
        for name in study.settings[axis].get(str(study.reference(axis)), {}):
            default = RECIPE_FIELDS[name].default
            fields |= {} if default is MISSING else {name: default}
    for axis, level in levels.items():
        if axis in study.settings:
            fields |= study.settings[axis].get(str(level), {})
        elif level is not None or None in study.axes[axis]:
            fields[axis] = level
    return fields


def _set_by(study: StudyRecord, axis: str) -> set[str]:
    """The recipe fields that an axis sets."""
    bundles = study.settings.get(axis)
    return {axis} if bundles is None else {name for fields in bundles.values() for name in fields}
