"""A study file as typed data: a base recipe, axes, a design, seeds and an activation source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.sources.kinds import load_source
from harness.sources.source import Source
from harness.study.axes import FIELDS, Axis, Setting, read_axis, read_field
from harness.study.curve import POINTS
from harness.study.designs import Design, check_axes, read_design
from harness.study.indifference import read_indifference
from harness.study.interpretability import Interpretability, read_interpretability
from harness.study.memory import KnownFeatures
from harness.study.pruning import Pruning, read_pruning
from harness.study.recipe import RECIPE_FIELDS, Recipe, Scalar
from harness.study.sampling import sampled
from harness.yaml_file import Strict, YamlFile, file_name, near, read_yaml

Keep = Literal["reported", "all", "none"]  # of which cells the trained SAEs stay on disk
MOST_LOOKS = 10  # of a study
Seeds = Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]


class Looks(Strict):
    """`seeds` written with keys: `looks: [3, 5, 8]` are the seeds from `first` to `first` + 7, in three steps."""

    looks: Annotated[list[Annotated[int, Field(ge=2, le=1000)]], Field(min_length=2, max_length=MOST_LOOKS)]
    first: Annotated[int, Field(ge=0, lt=2**31)] = 0


CurvePoints = Annotated[int, Field(ge=1, le=10_000)]


class PublishedFigures(Strict):
    """Figures that others have published, which the report shows beside the study's."""

    title: str  # what they are of
    note: str  # in what this study differs from it
    nmse: dict[str, dict[Annotated[int, Field(ge=1)], Annotated[float, Field(ge=0)]]]  # arm -> k -> normalised MSE


class StudyForm(Strict):
    """The keys of a study file."""

    question: str
    source: str  # a source file, from the study file's folder
    recipe: dict[str, Any]  # shared by all cells, unless an axis changes it
    axes: Annotated[dict[str, Any], Field(min_length=1)]
    design: Any = "factorial"  # harness/study/designs.py
    seeds: Any  # a list, or keys: Looks
    pruning: Any = "none"  # harness/study/pruning.py
    keep: Keep = "reported"
    references: dict[str, str] = Field(default={})  # SAEs to compare with, from the study file's folder
    curve_points: CurvePoints = POINTS  # of each learning curve: harness/study/curve.py
    published: PublishedFigures | None = None
    tuning_seeds: Seeds = Field(default=[])  # choose each arm's tuned setting for `seeds`
    indifference: dict[str, Any] = Field(default={})  # changes that do not matter: harness/study/indifference.py
    interpretability: Any = None  # harness/study/interpretability.py


@dataclass(frozen=True)
class Study:
    """A validated study; an axis comes after the one that its condition names."""

    name: str
    file: YamlFile
    question: str
    source: Source
    stated: Setting  # the recipe fields that the file's `recipe` gives a value
    axes: tuple[Axis, ...]
    design: Design
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...] = ()
    pruning: Pruning | None = None
    keep: Keep = "reported"
    curve_points: int = POINTS
    published: PublishedFigures | None = None
    indifference: Mapping[str, float] = field(default_factory=dict)  # by the outcome's short name, in its unit
    drawn: tuple[Setting, ...] = ()  # the arms of a sampled design: levels of the untuned axes
    references: Mapping[str, Path] = field(default_factory=dict)  # folders of SAEs, by their names
    interpretability: Interpretability | None = None  # None: it does not ask what latents mean
    look_after: tuple[int, ...] = ()  # seeds after which the undecided arms alone go on; the last are all

    @property
    def looks(self) -> list[tuple[int, ...]]:
        """The seeds at each look; all seeds where there is only the last."""
        return [self.seeds[:count] for count in self.look_after] or [self.seeds]

    @property
    def grows(self) -> bool:
        """Whether results decide how many cells there are."""
        return len(self.looks) > 1 or any(axis.extend for axis in self.axes)

    @property
    def pruned_by(self) -> str | None:
        """Identifies this study and rule in the cells' folders: others ignore its decisions."""
        if self.pruning is None:
            return None
        return sha256(f"{self.name} {self.pruning.model_dump_json()}".encode()).hexdigest()[:12]

    @property
    def base(self) -> Recipe:
        """The recipe of the baseline, or of the first arm drawn, with each tuned axis at its first level.

        Raises SettingError.
        """
        values = self._baseline(self.drawn[0] if self.drawn else {})
        return Recipe(**{name: values[name] for name in RECIPE_FIELDS if name in values})  # type: ignore[arg-type]

    @property
    def known_features(self) -> KnownFeatures | None:
        """What the latents of a cell are compared with at its end, where the source knows its features."""
        stored = self.source.stored
        return KnownFeatures(stored.tokens["held_out"], stored.features) if stored.features else None

    def baseline(self) -> Setting:
        """The arm to compare with: the values stated in the recipe, or else each axis' first level.

        With leave_one_out the last level: it is the full recipe.
        """
        values = self._baseline({})
        return {axis.name: values[axis.name] for axis in self.axes if not axis.tune and axis.name in values}

    def without_axes(self) -> Setting:
        """The stated or default value of each recipe field, without the axes.

        A field that has neither is left out.
        """
        defaults = {name: f.default for name, f in RECIPE_FIELDS.items() if f.default is not MISSING}
        return {**defaults, **self.stated}

    def _baseline(self, drawn: Setting) -> Setting:
        """The baseline's recipe fields, and its level of every axis; `drawn` ones come first."""
        values = self.without_axes()
        for axis in self.axes:
            if choices := axis.choices(values):
                level = drawn.get(axis.name, self.baseline_level(axis, choices))
                values |= {axis.name: level, **axis.fields(level)}
        return values

    def baseline_level(self, axis: Axis, choices: tuple[Scalar, ...]) -> Scalar:
        """The baseline's level of an axis that has these `choices` there."""
        stated = self.stated.get(axis.name)
        if axis.name in self.stated and stated in choices:
            return stated
        return choices[-1 if self.design.kind == "leave_one_out" and not axis.tune else 0]


def load_study(path: Path) -> Study:
    """Read and validate a study file and its source. Raises UserError: file, line, key, what was expected."""
    file = read_yaml(path)
    form: StudyForm = file.check(StudyForm, file.mapping())
    axes: list[Axis] = []
    for name in form.axes:
        axes.append(read_axis(file, name, form.axes[name], axes))
    seeds, look_after = _seeds(file, form.seeds)
    _check_seeds(file, seeds, form.tuning_seeds, axes)
    design = read_design(file, form.design)
    check_axes(file, axes, design)
    source = _source(file, form.source)
    _check_latents(file, form, source)
    study = Study(
        name=file_name(file),
        file=file,
        question=form.question.strip(),
        source=source,
        stated=_stated(file, form),
        axes=tuple(axes),
        design=design,
        seeds=tuple(seeds),
        tuning_seeds=tuple(form.tuning_seeds),
        pruning=read_pruning(file, form.pruning),
        keep=form.keep,
        curve_points=form.curve_points,
        published=form.published,
        indifference=read_indifference(file, form.indifference),
        interpretability=read_interpretability(file, form.interpretability),
        references=_references(file, form),
        look_after=look_after,
    )
    if design.kind != "sampled":
        return study
    drawn_axes, drawn = sampled(file, axes, design, study.without_axes())
    return replace(study, axes=drawn_axes, drawn=drawn)


def _source(file: YamlFile, name: str) -> Source:
    path = file.path.parent / name
    if not name.strip() or not name.isprintable():
        raise file.error(("source",), f"expected a source file, got {name!r}")
    try:
        path.stat()
    except OSError as failure:
        raise file.error(("source",), f"expected a source file, {path}: {failure.strerror}") from None
    return load_source(path)


def _check_latents(file: YamlFile, form: StudyForm, source: Source) -> None:
    """What latents mean can be asked of SAEs that stay on disk, and on a text."""
    if form.interpretability is None:
        return
    if form.keep == "none":
        raise file.error(("keep",), "expected 'reported' or 'all', since 'interpretability' needs trained SAEs")
    if source.stored.features is not None:
        raise file.error(("interpretability",), f"expected a source with text, got {source.name}, which has none")


def _references(file: YamlFile, form: StudyForm) -> dict[str, Path]:
    folders = {name: file.path.parent / folder for name, folder in form.references.items()}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise file.error(("references", name), f"expected the folder of an SAE, found none at {folder}")
    return folders


def _seeds(file: YamlFile, raw: object) -> tuple[list[int], tuple[int, ...]]:
    """All seeds, and after how many of them there is a look, if the study looks before the last one."""
    if not isinstance(raw, dict):
        seeds: list[int] = file.check(Seeds, raw, ("seeds",))
        return seeds, ()
    form: Looks = file.check(Looks, raw, ("seeds",))
    if form.looks != sorted(set(form.looks)):
        raise file.error(("seeds", "looks"), f"expected more seeds at each look than before, got {form.looks}")
    return list(range(form.first, form.first + form.looks[-1])), tuple(form.looks)


def _check_seeds(file: YamlFile, seeds: list[int], tuning_seeds: list[int], axes: list[Axis]) -> None:
    for key, listed in (("seeds", seeds), ("tuning_seeds", tuning_seeds)):
        if len(set(listed)) < len(listed):
            raise file.error((key,), f"expected each seed once, got {listed}")
    if both := sorted(set(seeds) & set(tuning_seeds)):
        raise file.error(("tuning_seeds",), f"expected seeds that are not under 'seeds' too, got {both}")
    if tuning_seeds and not any(axis.tune for axis in axes):
        raise file.error(("tuning_seeds",), "expected an axis with 'tune: true', whose values they choose")


def _stated(file: YamlFile, form: StudyForm) -> Setting:
    """The values under `recipe`, each checked alone: whether they fit together is checked for every setting."""
    values: Setting = {}
    for name, value in form.recipe.items():
        if name not in FIELDS:
            hint = "; seeds belong under 'seeds'" if name == "seed" else near(name, FIELDS)
            raise file.error(("recipe", name), "unknown key" + hint)
        values[name] = read_field(file, name, value, ("recipe", name))
    return values
