"""From a study to its settings and their recipes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, field

from harness.errors import SettingError
from harness.fingerprint import fingerprint
from harness.study.axes import Axis, Setting
from harness.study.fraction import ABSENT, Part, Point, balanced, main_effects
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
    drawn: Setting = field(default_factory=dict)  # the levels that it is to get, in a sampled design

    def with_level(self, axis: Axis, level: Scalar) -> _Row:
        fields = axis.fields(level)
        twice = [(name, self.set_by[name], axis.name) for name in fields if name in self.set_by]
        return _Row(
            {**self.values, axis.name: level, **fields},
            {**self.set_by, **dict.fromkeys(fields, axis.name)},
            self.clash or next(iter(twice), None),
            self.drawn,
        )

    def choices(self, axis: Axis) -> tuple[Scalar, ...]:
        """The levels that the axis gets here."""
        choices = axis.choices(self.values)
        return (self.drawn[axis.name],) if choices and axis.name in self.drawn else choices

    def has(self, axis: Axis) -> bool:
        """Whether the axis exists in this setting."""
        return axis.parent is None or self.set_by.get(axis.name) == axis.name

    def point(self, study: Study) -> Point:
        """Its level of each untuned axis."""
        axes = (axis for axis in study.axes if not axis.tune)
        return tuple(self.values[axis.name] if self.has(axis) else ABSENT for axis in axes)

    def varies(self, axis: Axis, study: Study, baseline: Setting) -> bool:
        """Whether the axis exists here at another level than in the baseline.

        In leave_one_out: than in the full recipe, if its condition holds there in another way.
        """
        if study.design.kind == "leave_one_out" and self.has(axis):
            return self.values[axis.name] != study.baseline_level(axis, axis.choices(self.values))
        return self.has(axis) and self.values[axis.name] != baseline.get(axis.name)


def _rows(study: Study) -> list[_Row]:
    """Every setting that the design asks for, each once, in the order of the study file.

    Raises UserError if there are too many, before they are made, or if a field without default is set neither by
    the recipe nor by an axis.
    """
    rows = _before_fraction(study)
    if study.design.kind == "fraction":
        arms, part = _fraction(study, rows)
        chosen = {arms[place] for place in part.chosen}
        rows = [row for row in rows if row.point(study) in chosen]
        _check_size(study, study.axes[-1], (1 for _ in rows), _seeds(study))
    for row in rows:
        _check_complete(study, row)
    return rows


def _before_fraction(study: Study) -> list[_Row]:
    """The settings of the design; of a fraction those of which it is a part."""
    rows = [_Row(study.without_axes(), drawn=arm) for arm in study.drawn or ({},)]
    seeds = 1 if study.design.kind == "fraction" else _seeds(study)
    baseline = study.baseline()
    for number, axis in enumerate(study.axes, start=1):
        _check_size(study, axis, (len(row.choices(axis)) for row in rows), seeds)
        rows = [new for row in rows for new in _extended(row, axis)]
        if study.design.kind in ("one_factor", "leave_one_out"):
            varied = [axis for axis in study.axes[:number] if not axis.tune]
            rows = [row for row in rows if sum(row.varies(axis, study, baseline) for axis in varied) <= 1]
    return rows


def _seeds(study: Study) -> int:
    return len(study.seeds) + len(study.tuning_seeds)


def _check_size(study: Study, axis: Axis, choices: Iterable[int], seeds: int) -> None:
    if seeds * sum(number or 1 for number in choices) > MOST_CELLS:
        what = "cells, but the axes and seeds of this file make more"
        if seeds == 1 and study.design.kind == "fraction":
            what = "settings to take a fraction of, but the axes of this file make more"
        message = f"expected at most {MOST_CELLS:,} {what}"
        raise study.file.error(("axes", axis.name), message)


def fraction(study: Study) -> tuple[int, Part]:
    """Of how many arms the study's fraction is a part, and which one."""
    arms, part = _fraction(study, _before_fraction(study))
    return len(arms), part


def _fraction(study: Study, rows: list[_Row]) -> tuple[list[Point], Part]:
    """All arms, and the part of them, which has the baseline in it. Raises UserError if there is no such part."""
    baseline = study.baseline().items()
    arms = dict.fromkeys(row.point(study) for row in rows)
    first = next((row for row in rows if all(row.values.get(name) == level for name, level in baseline)), None)
    points = list(arms)
    wanted, least = study.design.arms_of(len(points)), main_effects(points)
    where = ("design", "fraction")
    if wanted > len(points):
        raise study.file.error(where, f"expected at most {len(points)} arms, which are all, got {wanted}")
    if wanted < least:
        expected = f"expected at least {least} arms, since the axes have {least - 1} main effects"
        raise study.file.error(where, f"{expected}, got {wanted} of {len(points)}")
    return points, balanced(tuple(points), wanted, points.index(first.point(study)) if first else None)


def _check_complete(study: Study, row: _Row) -> None:
    missing = [name for name, f in RECIPE_FIELDS.items() if f.default is MISSING and name not in row.values]
    for name in missing:
        elsewhere = any(name in axis.fields(level) for axis in study.axes for level in axis.levels())
        where = f" (in {describe(_of_axes(study, row))})" if elsewhere else ""
        raise study.file.error(("recipe", name), f"this key is missing{where}")


def _extended(row: _Row, axis: Axis) -> Iterator[_Row]:
    choices = row.choices(axis)
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
