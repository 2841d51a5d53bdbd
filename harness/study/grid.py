"""From a study to its settings: designs -> levels of the axes -> recipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from harness.study.axes import Axis, Setting
from harness.study.recipe import RECIPE_FIELDS, Recipe, Scalar
from harness.study.spec import Study

MOST_CELLS = 100_000  # of a study; each has a folder, a trial and a run


@dataclass(frozen=True)
class _Row:
    """One setting in the making."""

    values: Setting  # of every recipe field, and the level of every axis
    set_by: dict[str, str] = field(default_factory=dict)  # recipe field -> the axis that sets it
    clash: tuple[str, str, str] | None = None  # a recipe field, and the two axes that both set it

    def with_level(self, axis: Axis, level: Scalar) -> _Row:
        fields = axis.fields(level)
        twice = [(name, self.set_by[name], axis.name) for name in fields if name in self.set_by]
        return _Row(
            {**self.values, axis.name: level, **fields},
            {**self.set_by, **dict.fromkeys(fields, axis.name)},
            self.clash or next(iter(twice), None),
        )

    def has(self, axis: Axis) -> bool:
        """Whether the axis exists in this setting."""
        return axis.parent is None or self.set_by.get(axis.name) == axis.name

    def varies(self, axis: Axis, baseline: Setting) -> bool:
        """Whether the axis exists here and has another level than in the baseline."""
        return self.has(axis) and self.values[axis.name] != baseline[axis.name]


def _rows(study: Study) -> list[_Row]:
    """Every setting that the design asks for, each once, in the order of the study file.

    Raises UserError where there are too many to list: they are counted before they are made.
    """
    rows = [_Row(asdict(study.base))]
    seeds = len(study.seeds) + len(study.tuning_seeds)
    baseline = study.baseline()
    for number, axis in enumerate(study.axes, start=1):
        if seeds * sum(len(axis.choices(row.values)) or 1 for row in rows) > MOST_CELLS:
            message = f"expected at most {MOST_CELLS:,} cells, with the axes and seeds of this file there are more"
            raise study.file.error(("axes", axis.name), message)
        rows = [new for row in rows for new in _extended(row, axis)]
        if study.design == "one_factor":
            varied = [axis for axis in study.axes[:number] if not axis.tune]
            rows = [row for row in rows if sum(row.varies(axis, baseline) for axis in varied) <= 1]
    return rows


def _extended(row: _Row, axis: Axis) -> Iterator[_Row]:
    choices = axis.choices(row.values)
    yield from (row.with_level(axis, level) for level in choices)
    if not choices:
        yield row


def settings(study: Study) -> list[Setting]:
    """Every setting of the axes that the design asks for, each once, in the order of the study file.

    An axis whose condition does not hold stands at the recipe's value: that of a named setting, or the base's.
    """
    return [_of_axes(study, row) for row in _rows(study)]


def _of_axes(study: Study, row: _Row) -> Setting:
    return {axis.name: row.values[axis.name] for axis in study.axes}


def levels(study: Study) -> dict[str, list[Scalar]]:
    """All levels of each axis: its own, then those at which it stands where its condition does not hold."""
    found = {axis.name: list(axis.levels()) for axis in study.axes}
    for setting in settings(study):
        for name, level in setting.items():
            if level not in found[name]:
                found[name].append(level)
    return found


def recipes(study: Study) -> list[tuple[Setting, Recipe]]:
    """Each setting with its recipe (at seed 0). Raises UserError for a setting that cannot be trained."""
    found: dict[Recipe, Setting] = {}
    for row in _rows(study):
        setting, recipe = _of_axes(study, row), _recipe(study, row)
        if recipe in found:
            other = found[recipe]
            axis = next(name for name in setting if setting[name] != other[name])
            message = f"expected settings that differ, {describe(setting)!r} trains what {describe(other)!r} does"
            raise study.file.error(("axes", axis), message)
        found[recipe] = setting
    return [(setting, recipe) for recipe, setting in found.items()]


def _recipe(study: Study, row: _Row) -> Recipe:
    where = f"in {describe(_of_axes(study, row))}"
    if row.clash:
        name, first, second = row.clash
        message = f"expected one axis that sets {name!r}, {first!r} and {second!r} both do ({where})"
        raise study.file.error(("axes", second), message)
    try:
        return replace(study.base, **{name: row.values[name] for name in RECIPE_FIELDS})  # type: ignore[arg-type]
    except ValueError as failure:
        key, _, message = str(failure).partition(": ")
        axis = row.set_by.get(key, key)
        at = ("axes", key) if axis == key else ("axes", axis, "settings", str(row.values[axis]), key)
        raise study.file.error(at, f"{message} ({where})") from None


def describe(setting: Setting) -> str:
    """`dense 2-2, penalty 0.1, adam`: numbers with the name of their axis, texts speak for themselves."""
    return ", ".join(v if isinstance(v, str) else f"{name} {v:g}" for name, v in setting.items())
