"""A study file as typed data: a base recipe, axes, a design, seeds and an activation source."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import Field

from harness.study.recipe import RECIPE_FIELDS, Layers, Recipe, Scalar
from harness.study.source import Source, Strict, file_name, load_source
from harness.study.yaml_file import Location, YamlFile, near, read_yaml

Design = Literal["factorial", "one_factor"]
Setting = dict[str, Scalar]
Values = Annotated[list[Any], Field(min_length=1)]

RECIPE_TYPES = get_type_hints(Recipe)
AXES = [name for name in RECIPE_FIELDS if name != "seed"]


class AxisForm(Strict):
    """An axis written with keys: either `values`, or `when: {other axis: {its value: values here}}`."""

    values: Values | None = None
    when: Annotated[dict[str, dict[Scalar, Values]], Field(min_length=1, max_length=1)] | None = None
    tune: bool = False  # searched inside each arm; the arm is reported at its best


class StudyForm(Strict):
    """The keys of a study file."""

    question: str
    source: str  # a source file, from the study file's folder
    recipe: dict[str, Any]  # what every cell shares unless an axis changes it
    axes: Annotated[dict[str, Any], Field(min_length=1)]
    design: Design = "factorial"
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


@dataclass(frozen=True)
class Axis:
    """One factor: a recipe field and its values, which may depend on the value of another axis."""

    name: str
    tune: bool
    values: tuple[Scalar, ...] = ()  # of an axis without condition
    parent: str | None = None
    by_parent: tuple[tuple[Scalar, tuple[Scalar, ...]], ...] = ()  # parent's value -> values here

    def choices(self, setting: Setting) -> tuple[Scalar, ...]:
        """Its values beside these of the other axes; none where its condition does not hold."""
        if self.parent is None:
            return self.values
        return next((values for value, values in self.by_parent if value == setting[self.parent]), ())

    def levels(self) -> tuple[Scalar, ...]:
        """All its values under any condition, each once."""
        conditional = [value for _, values in self.by_parent for value in values]
        return tuple(dict.fromkeys([*self.values, *conditional]))


@dataclass(frozen=True)
class Study:
    """A validated study; an axis stands behind the one that its condition names."""

    name: str
    file: YamlFile
    question: str
    source: Source
    base: Recipe  # the values of fields that are no axis, or whose axis does not exist in a setting
    axes: tuple[Axis, ...]
    design: Design
    seeds: tuple[int, ...]

    def baseline(self) -> Setting:
        """The arm to compare with: the base recipe's values, or an axis' first one where it lacks them."""
        setting: Setting = asdict(self.base)
        for axis in self.axes:
            choices = axis.choices(setting)
            if choices and setting[axis.name] not in choices:
                setting[axis.name] = choices[0]
        return {axis.name: setting[axis.name] for axis in self.axes if not axis.tune}


def load_study(path: Path) -> Study:
    """Read and validate a study file and its source. Raises UserError: file, line, key, what was expected."""
    file = read_yaml(path)
    form: StudyForm = file.check(StudyForm, file.mapping())
    if len(set(form.seeds)) < len(form.seeds):
        raise file.error(("seeds",), f"expected each seed once, got {form.seeds}")
    axes: list[Axis] = []
    for name in form.axes:
        axes.append(_axis(file, name, form.axes[name], axes))
    return Study(
        name=file_name(file),
        file=file,
        question=form.question.strip(),
        source=load_source(path.parent / form.source),
        base=_base(file, form, axes),
        axes=tuple(axes),
        design=form.design,
        seeds=tuple(form.seeds),
    )


def _base(file: YamlFile, form: StudyForm, axes: list[Axis]) -> Recipe:
    """The base recipe; a field without default may be left to an axis, which then gives its first value."""
    values = {name: axis.levels()[0] for axis in axes if (name := axis.name) not in form.recipe}
    for name, value in form.recipe.items():
        if name not in AXES:
            hint = "; seeds stand under 'seeds'" if name == "seed" else near(name, AXES)
            raise file.error(("recipe", name), "unknown key" + hint)
        values[name] = _field(file, name, value, ("recipe", name))
    for name, known in RECIPE_FIELDS.items():
        if known.default is MISSING and name not in values:
            raise file.error(("recipe", name), "this key is missing")
    try:
        return Recipe(**values)  # type: ignore[arg-type]
    except ValueError as failure:
        key, _, message = str(failure).partition(": ")
        raise file.error(("recipe", key), message) from None


def _field(file: YamlFile, name: str, value: object, where: Location) -> Scalar:
    """A value of the recipe field `name`, checked against its type and bounds."""
    bounds: dict[str, Any] = {**RECIPE_FIELDS[name].metadata}
    if RECIPE_TYPES[name] is float:
        bounds["allow_inf_nan"] = False
    checked: Scalar = file.check(Annotated[RECIPE_TYPES[name], Field(**bounds)], value, where)
    if name == "layers":
        try:
            Layers.parse(str(checked))
        except ValueError as failure:
            raise file.error(where, str(failure)) from None
    return checked


def _axis(file: YamlFile, name: str, raw: object, before: list[Axis]) -> Axis:
    where: Location = ("axes", name)
    if name not in AXES:
        hint = "; seeds stand under 'seeds'" if name == "seed" else near(name, AXES)
        raise file.error(where, "unknown axis" + hint)
    if isinstance(raw, list):
        return Axis(name, tune=False, values=_values(file, name, raw, where))
    form: AxisForm = file.check(AxisForm, raw, where)
    if (form.values is None) == (form.when is None):
        raise file.error(where, "expected either 'values' or 'when'")
    if form.values is not None:
        return Axis(name, form.tune, values=_values(file, name, form.values, (*where, "values")))
    assert form.when is not None
    ((parent_name, table),) = form.when.items()
    where = (*where, "when", parent_name)
    parent = next((axis for axis in before if axis.name == parent_name), None)
    if parent is None:
        known = ", ".join(axis.name for axis in before) or "none"
        raise file.error(where, f"expected an axis that stands before {name!r} ({known})")
    by_parent = []
    for key, values in table.items():
        value = _field(file, parent_name, key, (*where, str(key)))
        if value not in parent.levels():
            levels = ", ".join(str(level) for level in parent.levels())
            raise file.error((*where, str(key)), f"{key!r} is no value of the axis {parent_name!r} ({levels})")
        by_parent.append((value, _values(file, name, values, (*where, str(key)))))
    return Axis(name, form.tune, parent=parent_name, by_parent=tuple(by_parent))


def _values(file: YamlFile, name: str, raw: object, where: Location) -> tuple[Scalar, ...]:
    values = [
        _field(file, name, value, (*where, index)) for index, value in enumerate(file.check(Values, raw, where))
    ]
    if len(set(values)) < len(values):
        raise file.error(where, f"expected each value once, got {values}")
    return tuple(values)
