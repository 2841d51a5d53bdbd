"""The axes of a study file: what varies, over which levels, under which condition."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

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


class TuneForm(Strict):
    """`tune` written with keys. `values` may stand here or beside `tune`."""

    values: Values | None = None
    extend: bool = False  # where an arm is best at an end of its list, the search goes on beyond it
    limit: Annotated[int, Field(ge=1, le=20)] = 4  # values that may be added to an arm's list


class AxisForm(Strict):
    """An axis written with keys. `when` is `{other axis: {its level: values, or a range, here}}`."""

    values: Values | None = None
    low: Any = None  # of a range, for a sampled design
    high: Any = None
    log: Any = None
    when: Annotated[dict[str, dict[Scalar, Any]], Field(min_length=1, max_length=1)] | None = None
    settings: Annotated[dict[Scalar, dict[str, Any]], Field(min_length=1)] | None = None
    tune: Any = False  # searched inside each arm; the arm is reported at its best

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
    extend: int = 0  # values that a search may add to an arm's list: harness/study/extension.py

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
    if isinstance(raw, list):
        return Axis(_of_recipe(file, name), tune=False, values=_values(file, name, raw, where))
    if not isinstance(raw, dict):
        raise file.error(where, f"expected a list of values, or keys and values, got {shown(raw)}")
    form: AxisForm = file.check(AxisForm, raw, where)
    tuning = _tuning(file, form.tune, (*where, "tune"))
    listed = {"values": form.values, "tune.values": tuning.values if tuning else None}
    given = (*listed.values(), form.when, form.settings, form.range or None)
    if sum(one is not None for one in given) != 1:
        raise file.error(where, "expected one of 'values', 'when' and 'settings', or 'low' and 'high'")
    if form.settings is not None:
        axis = _bundles(file, name, form.settings, tuning is not None, before)
    elif form.when is not None:
        axis = _conditional(file, _of_recipe(file, name), form.when, tuning is not None, before)
    elif form.range:
        ranges: dict[Scalar, Range] = {None: _range(file, _of_recipe(file, name), form.range, where)}
        axis = Axis(name, tuning is not None, ranges=ranges)
    else:
        key, values = next((key, values) for key, values in listed.items() if values is not None)
        listed_at = (*where, *key.split("."))
        axis = Axis(_of_recipe(file, name), tuning is not None, _values(file, name, values, listed_at))
    return _extended(file, axis, tuning) if tuning and tuning.extend else axis


def _of_recipe(file: YamlFile, name: str) -> str:
    if name not in FIELDS:
        hint = "; seeds belong under 'seeds'" if name == "seed" else near(name, FIELDS)
        raise file.error(("axes", name), f"unknown axis{hint}")
    return name


def _tuning(file: YamlFile, raw: object, where: Location) -> TuneForm | None:
    """What `tune` says: true, false, or keys."""
    if not isinstance(raw, dict):
        return TuneForm() if file.check(bool, raw, where) else None
    form: TuneForm = file.check(TuneForm, raw, where)
    if "limit" in raw and not form.extend:
        raise file.error((*where, "limit"), "expected 'extend: true' beside it, since nothing is added without it")
    return form


def _extended(file: YamlFile, axis: Axis, tuning: TuneForm) -> Axis:
    where: Location = ("axes", axis.name, "tune", "extend")
    lists = [axis.values, *(values for _, values in axis.by_parent)]
    if axis.bundles or not any(len(numbers_of(values)) > 1 for values in lists):
        raise file.error(where, "expected a list of two numbers or more, which say what comes after the last one")
    return replace(axis, extend=tuning.limit)


def numbers_of(values: Iterable[Scalar]) -> list[float]:
    """Those of them that are numbers."""
    return [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _conditional(
    file: YamlFile, name: str, when: dict[str, dict[Scalar, Any]], tune: bool, before: list[Axis]
) -> Axis:
    ((parent_name, table),) = when.items()
    where: Location = ("axes", name, "when", parent_name)
    parent = next((axis for axis in before if axis.name == parent_name), None)
    if parent is None:
        known = ", ".join(axis.name for axis in before) or "none"
        raise file.error(where, f"expected an axis that comes before {name!r} ({known})")
    if parent.extend:
        raise file.error(where, f"expected an axis whose values are all in this file, {parent_name!r} is extended")
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
    if name in OFF and value is None:
        return None
    if name in OFF and not isinstance(value, bool) and value == 0:
        raise file.error(where, zero_refused(name).message)
    checked: Scalar = file.check(_kind(name), value, where)
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


def is_value(name: str, value: float) -> bool:
    """Whether a number is within the bounds of the recipe field `name`."""
    try:
        _adapter(name).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_kind(name))


def _kind(name: str) -> Any:
    """The type of the recipe field `name`, with its bounds, for pydantic."""
    bounds: dict[str, Any] = {**RECIPE_FIELDS[name].metadata["bounds"]}
    if RECIPE_TYPES[name] in (float, float | None):
        bounds["allow_inf_nan"] = False
    return Annotated[Literal[tuple(NAMED[name])] if name in NAMED else RECIPE_TYPES[name], Field(**bounds)]
