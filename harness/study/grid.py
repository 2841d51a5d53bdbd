"""From a study to its settings and their recipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field

from harness.errors import SettingError
from harness.fingerprint import fingerprint
from harness.study.axes import Axis, Setting
from harness.study.identity import decisive, inert
from harness.study.labels import describe, show
from harness.study.recipe import RECIPE_FIELDS, Recipe, Scalar
from harness.study.spec import Study
from harness.yaml_file import Location

MOST_CELLS = 100_000  # of a study; each cell has a folder, a trial and a run


@dataclass(frozen=True)
class _Row:
    """A setting while axes are being added to it."""

    values: Setting  # of each recipe field, and the level of each axis
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
        """Whether the axis exists here at another level than in the baseline."""
        return self.has(axis) and self.values[axis.name] != baseline.get(axis.name)


def _rows(study: Study) -> list[_Row]:
    """Every setting that the design asks for, each once, in the order of the study file.

    Raises UserError if there are too many, before they are made, or if a field without default is set neither by
    the recipe nor by an axis.
    """
    rows = [_Row(study.without_axes())]
    seeds = len(study.seeds) + len(study.tuning_seeds)
    baseline = study.baseline()
    for number, axis in enumerate(study.axes, start=1):
        if seeds * sum(len(axis.choices(row.values)) or 1 for row in rows) > MOST_CELLS:
            message = f"expected at most {MOST_CELLS:,} cells, but the axes and seeds of this file make more"
            raise study.file.error(("axes", axis.name), message)
        rows = [new for row in rows for new in _extended(row, axis)]
        if study.design == "one_factor":
            varied = [axis for axis in study.axes[:number] if not axis.tune]
            rows = [row for row in rows if sum(row.varies(axis, baseline) for axis in varied) <= 1]
    for row in rows:
        _check_complete(study, row)
    return rows


def _check_complete(study: Study, row: _Row) -> None:
    missing = [name for name, f in RECIPE_FIELDS.items() if f.default is MISSING and name not in row.values]
    for name in missing:
        elsewhere = any(name in axis.fields(level) for axis in study.axes for level in axis.levels())
        where = f" (in {describe(_of_axes(study, row))})" if elsewhere else ""
        raise study.file.error(("recipe", name), f"this key is missing{where}")


def _extended(row: _Row, axis: Axis) -> Iterator[_Row]:
    choices = axis.choices(row.values)
    yield from (row.with_level(axis, level) for level in choices)
    if not choices:
        yield row


def settings(study: Study) -> list[Setting]:
    """Every setting of the axes that the design asks for, each once, in the order of the study file.

    An axis whose condition does not hold has the value of a named setting, of the study's recipe, or the default.
    """
    return [_of_axes(study, row) for row in _rows(study)]


def _of_axes(study: Study, row: _Row) -> Setting:
    return {axis.name: row.values[axis.name] for axis in study.axes if axis.name in row.values}


def levels(study: Study) -> dict[str, list[Scalar]]:
    """All levels of each axis: its own, then those that it has where its condition does not hold."""
    found = {axis.name: list(axis.levels()) for axis in study.axes}
    for setting in settings(study):
        for name, level in setting.items():
            if level not in found[name]:
                found[name].append(level)
    return found


def recipes(study: Study) -> list[tuple[Setting, Recipe]]:
    """Each setting with its recipe (at seed 0). Raises UserError for a setting that cannot be trained."""
    found: list[tuple[Setting, Recipe]] = []
    seen: dict[str, Setting] = {}
    for row in _rows(study):
        setting, recipe = _of_axes(study, row), _recipe(study, row)
        if (other := seen.setdefault(fingerprint(decisive(recipe)), setting)) is not setting:
            raise _same(study, setting, other, recipe)
        found.append((setting, recipe))
    return found


def _same(study: Study, setting: Setting, other: Setting, recipe: Recipe) -> Exception:
    """Two settings train the same weights, so that comparing them would say nothing."""
    axis = next(axis for axis in study.axes if setting[axis.name] != other[axis.name])
    message = f"expected settings that differ, {describe(setting)!r} trains the same as {describe(other)!r}"
    for name, switch in inert(recipe).items():
        if name in axis.fields(setting[axis.name]):
            message += f", since {name} does nothing if {switch} is {show(getattr(recipe, switch))}"
            break
    return study.file.error(("axes", axis.name), message)


def _recipe(study: Study, row: _Row) -> Recipe:
    where = f"in {describe(_of_axes(study, row))}"
    if row.clash:
        name, first, second = row.clash
        message = f"expected one axis that sets {name!r}, {first!r} and {second!r} both do ({where})"
        raise study.file.error(("axes", second), message)
    try:
        return Recipe(**{name: row.values[name] for name in RECIPE_FIELDS})  # type: ignore[arg-type]
    except SettingError as error:
        raise study.file.error(location(study, row.values, error.key), f"{error.message} ({where})") from None


def location(study: Study, setting: Setting, name: str) -> Location:
    """Where the study file gives the recipe field `name` the value that it has in this setting."""
    for axis in study.axes:
        if (choices := axis.choices(setting)) and name in axis.fields(setting[axis.name]):
            level = setting[axis.name]
            if axis.bundles:
                return ("axes", axis.name, "settings", str(level), name)
            place = choices.index(level)
            if axis.parent is not None:
                return ("axes", axis.name, "when", axis.parent, str(setting[axis.parent]), place)
            values = ("axes", axis.name, "values")
            return (*values, place) if values in study.file.lines else ("axes", axis.name, place)
    return ("recipe", name)
