"""The arms of a study: what is compared, and the tuned settings that each is tried at."""

from __future__ import annotations

from dataclasses import dataclass

from harness.study.axes import Setting
from harness.study.extension import Candidates, candidates
from harness.study.grid import recipes
from harness.study.recipe import Recipe, Scalar
from harness.study.spec import Study

Key = tuple[Scalar, ...]  # the levels of an arm, or of its tuned axes


@dataclass(frozen=True)
class ArmSpec:
    """One setting of the untuned axes, and the tuned settings that are tried with it.

    It has at least `tuning_cells` and `reported_cells`; a search that is extended adds some, and so does each look
    after the first one.
    """

    levels: Setting
    tuned: list[Setting]  # of the tuned axes
    recipes: list[Recipe]  # of each of these, at seed 0
    beyond: Candidates  # settings that its search may be extended by
    tuning_cells: int
    reported_cells: int
    most_tuning_cells: int
    most_reported_cells: int

    @property
    def key(self) -> Key:
        return key(self.levels)


def arms(study: Study) -> list[ArmSpec]:
    """The arms of a study, in its order. Raises UserError for a setting that cannot be trained."""
    groups: dict[Key, tuple[Setting, list[tuple[Setting, Recipe]]]] = {}
    for setting, recipe in recipes(study):
        levels, tuned = _split(study, setting)
        groups.setdefault(key(levels), (levels, []))[1].append((tuned, recipe))
    beyond = candidates(study, list(groups.values()))
    return [_arm(study, *group, more) for group, more in zip(groups.values(), beyond, strict=True)]


def _arm(study: Study, levels: Setting, settings: list[tuple[Setting, Recipe]], beyond: Candidates) -> ArmSpec:
    tried = len(settings)
    most = tried + min(len(beyond), sum(axis.extend for axis in study.axes))
    searched = len(study.tuning_seeds) if tried > 1 else 0
    first, last = len(study.looks[0]), len(study.looks[-1])
    return ArmSpec(
        levels=levels,
        tuned=[tuned for tuned, _ in settings],
        recipes=[recipe for _, recipe in settings],
        beyond=beyond,
        tuning_cells=tried * searched,
        reported_cells=first * (1 if study.tuning_seeds else tried),
        most_tuning_cells=most * searched,
        most_reported_cells=last * (1 if study.tuning_seeds else most),
    )


def _split(study: Study, setting: Setting) -> tuple[Setting, Setting]:
    """The levels of the untuned axes, and of the tuned ones."""
    tuned = {axis.name for axis in study.axes if axis.tune}
    arm = {name: level for name, level in setting.items() if name not in tuned}
    return arm, {name: level for name, level in setting.items() if name in tuned}


def key(setting: Setting) -> Key:
    return tuple(setting.values())
