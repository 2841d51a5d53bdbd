"""A study file as typed data: a base recipe, axes, a design, seeds and an activation source."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.study.axes import FIELDS, Axis, Setting, read_axis, read_field
from harness.study.pruning import Pruning, read_pruning
from harness.study.recipe import RECIPE_FIELDS, Recipe, Scalar
from harness.study.source import Source, Strict, file_name, load_source
from harness.study.yaml_file import YamlFile, near, read_yaml

Design = Literal["factorial", "one_factor"]
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]


class StudyForm(Strict):
    """The keys of a study file."""

    question: str
    source: str  # a source file, from the study file's folder
    recipe: dict[str, Any]  # what every cell shares unless an axis changes it
    axes: Annotated[dict[str, Any], Field(min_length=1)]
    design: Design = "factorial"
    seeds: Seeds
    pruning: Any = "none"  # harness/study/pruning.py
    tuning_seeds: Seeds = Field(default=[])  # choose each arm's tuned setting for `seeds`


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
    tuning_seeds: tuple[int, ...] = ()
    pruning: Pruning | None = None

    @property
    def pruned_by(self) -> str | None:
        """Names its verdicts in the cells' folders, which no other study and no other rule goes by."""
        if self.pruning is None:
            return None
        return sha256(f"{self.name} {self.pruning.model_dump_json()}".encode()).hexdigest()[:12]

    def baseline(self) -> Setting:
        """The arm to compare with: the base recipe's values, or an axis' first level where it lacks them."""
        setting: Setting = asdict(self.base)
        for axis in self.axes:
            if choices := axis.choices(setting):
                level = setting[axis.name] if setting.get(axis.name) in choices else choices[0]
                setting |= {axis.name: level, **axis.fields(level)}
        return {axis.name: setting[axis.name] for axis in self.axes if not axis.tune}


def load_study(path: Path) -> Study:
    """Read and validate a study file and its source. Raises UserError: file, line, key, what was expected."""
    file = read_yaml(path)
    form: StudyForm = file.check(StudyForm, file.mapping())
    axes: list[Axis] = []
    for name in form.axes:
        axes.append(read_axis(file, name, form.axes[name], axes))
    _check_seeds(file, form, axes)
    return Study(
        name=file_name(file),
        file=file,
        question=form.question.strip(),
        source=_source(file, form.source),
        base=_base(file, form, axes),
        axes=tuple(axes),
        design=form.design,
        seeds=tuple(form.seeds),
        tuning_seeds=tuple(form.tuning_seeds),
        pruning=read_pruning(file, form.pruning),
    )


def _source(file: YamlFile, name: str) -> Source:
    path = file.path.parent / name
    if not name.strip() or not name.isprintable():
        raise file.error(("source",), f"expected a source file, got {name!r}")
    try:
        path.stat()
    except OSError as failure:
        raise file.error(("source",), f"expected a source file, {path}: {failure.strerror}") from None
    return load_source(path)


def _check_seeds(file: YamlFile, form: StudyForm, axes: list[Axis]) -> None:
    for key, seeds in (("seeds", form.seeds), ("tuning_seeds", form.tuning_seeds)):
        if len(set(seeds)) < len(seeds):
            raise file.error((key,), f"expected each seed once, got {seeds}")
    if both := sorted(set(form.seeds) & set(form.tuning_seeds)):
        raise file.error(("tuning_seeds",), f"expected seeds that do not stand under 'seeds' too, got {both}")
    if form.tuning_seeds and not any(axis.tune for axis in axes):
        raise file.error(("tuning_seeds",), "expected an axis with 'tune: true', whose values they choose")


def _base(file: YamlFile, form: StudyForm, axes: list[Axis]) -> Recipe:
    """The base recipe; a field without default may be left to an axis, which then gives its first value."""
    values: dict[str, Scalar] = {}
    for axis in axes:
        values |= _first_level(axis)
    for name, value in form.recipe.items():
        if name not in FIELDS:
            hint = "; seeds stand under 'seeds'" if name == "seed" else near(name, FIELDS)
            raise file.error(("recipe", name), "unknown key" + hint)
        values[name] = read_field(file, name, value, ("recipe", name))
    for name, known in RECIPE_FIELDS.items():
        if known.default is MISSING and name not in values:
            raise file.error(("recipe", name), "this key is missing")
    try:
        return Recipe(**values)  # type: ignore[arg-type]
    except ValueError as failure:
        key, _, message = str(failure).partition(": ")
        raise file.error(("recipe", key), message) from None


def _first_level(axis: Axis) -> Setting:
    """What an axis gives the base recipe.

    Of named settings only a field that has no default and that all of them set: one that leaves a field out stands
    at the base recipe's value, which must not be that of another one.
    """
    fields = axis.fields(axis.levels()[0])
    if not axis.bundles:
        return fields
    needed = [name for name in fields if RECIPE_FIELDS[name].default is MISSING]
    return {name: fields[name] for name in needed if all(name in bundle for bundle in axis.bundles.values())}
