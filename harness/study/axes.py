"""The axes of a study file: what varies, over which levels, under which condition."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.errors import SettingError
from harness.study.catalogue import parse_layers
from harness.study.ranges import Range, RangeForm, as_range
from harness.study.recipe import NAMED, OFF, RECIPE_FIELDS, RECIPE_TYPES, Scalar, zero_refused
from harness.yaml_file import Location, Strict, YamlFile, near, shown

Setting = dict[str, Scalar]
Values = Annotated[list[Any], Field(min_length=1)]

FIELDS = [name for name in RECIPE_FIELDS if name != "seed"]  # what an axis may vary
MOST_LAYERS, LEAST_WIDTH, MOST_WIDTH = 100, 0.001, 1000  # of added dense layers
LONGEST = 100  # characters of a name that tables show


class AxisForm(Strict):
    """An axis written with keys. `when` is `{other axis: {its level: values, or a range, here}}`."""

    values: Values | None = None
    low: Any = None  # of a range, for a sampled design
    high: Any = None
    log: Any = None
    when: Annotated[dict[str, dict[Scalar, Any]], Field(min_length=1, max_length=1)] | None = None
    settings: Annotated[dict[Scalar, dict[str, Any]], Field(min_length=1)] | None = None
    tune: bool = False  # searched inside each arm; the arm is reported at its best

    @property
    def range(self) -> dict[str, Any]:
        """The keys of a range that are there."""
        return {key: end for key in ("low", "high", "log") if (end := getattr(self, key)) is not None}


@dataclass(frozen=True)
class Axis:
    """One factor and its levels, which may depend on the level of another axis.

    Its name is that of a recipe field and its levels are values of that field, unless `bundles` says which fields
    each level sets.
    """

    name: str
    tune: bool
    values: tuple[Scalar, ...] = ()  # if it has no condition
    parent: str | None = None
    by_parent: tuple[tuple[Scalar, tuple[Scalar, ...]], ...] = ()  # parent's level -> values here
    bundles: Mapping[Scalar, Setting] = field(default_factory=dict)  # named level -> recipe fields
    # What a sampled design draws its levels from: parent's level (None: no condition) -> range
    ranges: Mapping[Scalar, Range] = field(default_factory=dict)

    def choices(self, setting: Setting) -> tuple[Scalar, ...]:
        """Its levels given these levels of the other axes; none if its condition does not hold."""
        if self.parent is None:
            return self.values
        return next((values for level, values in self.by_parent if level == setting.get(self.parent)), ())

    def levels(self) -> tuple[Scalar, ...]:
        """All its levels under any condition, each once."""
        conditional = [value for _, values in self.by_parent for value in values]
        return tuple(dict.fromkeys([*self.values, *conditional]))

    def fields(self, level: Scalar) -> Setting:
        """The recipe fields that this level sets."""
        return self.bundles[level] if self.bundles else {self.name: level}


def read_axis(file: YamlFile, name: str, raw: object, before: list[Axis]) -> Axis:
    """The axis `name` of a study file, given the axes that come `before` it. Raises UserError."""
    where: Location = ("axes", name)
    form: AxisForm | None = None if isinstance(raw, list) else file.check(AxisForm, raw, where)
    if (
        form
        and sum(given is not None for given in (form.values, form.when, form.settings, form.range or None)) != 1
    ):
        raise file.error(where, "expected one of 'values', 'when' and 'settings', or 'low' and 'high'")
    if form and form.settings is not None:
        return _bundles(file, name, form.settings, form.tune, before)
    if name not in FIELDS:
        hint = "; seeds belong under 'seeds'" if name == "seed" else near(name, FIELDS)
        raise file.error(where, f"unknown axis{hint}")
    if form is None:
        return Axis(name, tune=False, values=_values(file, name, raw, where))
    if form.when is not None:
        return _conditional(file, name, form.when, form.tune, before)
    if form.range:
        return Axis(name, form.tune, ranges={None: _range(file, name, form.range, where)})
    return Axis(name, form.tune, values=_values(file, name, form.values, (*where, "values")))


def _conditional(
    file: YamlFile, name: str, when: dict[str, dict[Scalar, Any]], tune: bool, before: list[Axis]
) -> Axis:
    ((parent_name, table),) = when.items()
    where: Location = ("axes", name, "when", parent_name)
    parent = next((axis for axis in before if axis.name == parent_name), None)
    if parent is None:
        known = ", ".join(axis.name for axis in before) or "none"
        raise file.error(where, f"expected an axis that comes before {name!r} ({known})")
    by_parent, ranges = [], {}
    for key, values in table.items():
        at = (*where, str(key))
        level = key if parent.bundles else read_field(file, parent_name, key, at)
        if level not in parent.levels():
            levels = ", ".join(str(level) for level in parent.levels())
            raise file.error(at, f"{key!r} is not a value of the axis {parent_name!r} ({levels})")
        if isinstance(values, dict):
            ranges[level] = _range(file, name, values, at)
        by_parent.append((level, () if isinstance(values, dict) else _values(file, name, values, at)))
    return Axis(name, tune, parent=parent_name, by_parent=tuple(by_parent), ranges=ranges)


def _bundles(
    file: YamlFile, name: str, settings: dict[Scalar, dict[str, Any]], tune: bool, before: list[Axis]
) -> Axis:
    where: Location = ("axes", name)
    if name in RECIPE_FIELDS:
        raise file.error(where, "expected a name that is no recipe field, since its levels are named settings")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9 -]*", name) or len(name) > LONGEST:
        raise file.error(
            where, f"expected a name of letters, digits, ' ' and '-' (at most {LONGEST}), got {name!r}"
        )
    where = (*where, "settings")
    for level, fields in settings.items():
        if not isinstance(level, str) or not level.strip() or not level.isprintable() or len(level) > LONGEST:
            message = (
                f"expected text as the level's name, got {shown(level)} (printable, at most {LONGEST} characters)"
            )
            raise file.error((*where, str(level)), message)
        for key in fields:
            at = (*where, level, key)
            if key not in FIELDS:
                hint = "; seeds belong under 'seeds'" if key == "seed" else near(key, FIELDS)
                raise file.error(at, "unknown key" + hint)
            if key in (axis.name for axis in before):
                hint = f"expected it after {name!r}, with a 'when' on it"
                raise file.error(at, f"{key!r} is an axis, too: {hint}")
    bundles: dict[Scalar, Setting] = {
        level: {key: read_field(file, key, value, (*where, str(level), key)) for key, value in fields.items()}
        for level, fields in settings.items()
    }
    return Axis(name, tune, values=tuple(bundles), bundles=bundles)


def _values(file: YamlFile, name: str, raw: object, where: Location) -> tuple[Scalar, ...]:
    values = [
        read_field(file, name, value, (*where, index))
        for index, value in enumerate(file.check(Values, raw, where))
    ]
    if len(set(values)) < len(values):
        raise file.error(where, f"expected each value once, got {values}")
    return tuple(values)


def _range(file: YamlFile, name: str, raw: object, where: Location) -> Range:
    form: RangeForm = file.check(RangeForm, raw, where)
    low, high = (read_field(file, name, getattr(form, key), (*where, key)) for key in ("low", "high"))
    return as_range(file, form, low, high, RECIPE_TYPES[name] in (int, int | None), where)


def read_field(file: YamlFile, name: str, value: object, where: Location) -> Scalar:
    """A value of the recipe field `name`, checked against its type and bounds. Raises UserError."""
    bounds: dict[str, Any] = {**RECIPE_FIELDS[name].metadata["bounds"]}
    if name in OFF and value is None:
        return None
    if name in OFF and not isinstance(value, bool) and value == 0:
        raise file.error(where, zero_refused(name).message)
    if RECIPE_TYPES[name] in (float, float | None):
        bounds["allow_inf_nan"] = False
    kind = Literal[tuple(NAMED[name])] if name in NAMED else RECIPE_TYPES[name]
    checked: Scalar = file.check(Annotated[kind, Field(**bounds)], value, where)
    if name == "layers":
        try:
            layers = parse_layers(str(checked))
        except SettingError as error:
            raise file.error(where, error.message) from None
        widths = layers.encoder + layers.decoder
        if len(widths) > MOST_LAYERS or not all(LEAST_WIDTH <= width <= MOST_WIDTH for width in widths):
            expected = f"at most {MOST_LAYERS} layers, each {LEAST_WIDTH:g} to {MOST_WIDTH:,} times as wide as"
            raise file.error(where, f"expected {expected} the activations, got {checked!r}")
    return checked
