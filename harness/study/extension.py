"""Values beyond the lists of tuned axes, for arms whose best value is the first or last of its list.

`tune: {extend: true}` adds one value at a time at that end, until the best value is inside the list or `limit`
values have been added to it. Which values may follow is known from the study file alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product

from harness.errors import SettingError
from harness.fingerprint import fingerprint
from harness.study.axes import Axis, Setting, is_value, numbers_of
from harness.study.fit import fits
from harness.study.grid import levels
from harness.study.identity import decisive
from harness.study.recipe import RECIPE_TYPES, Recipe, Scalar
from harness.study.spec import Study

Candidates = Mapping[tuple[Scalar, ...], tuple[Setting, Recipe]]  # by the levels of the tuned axes
DIGITS = 4  # of an added value, as 0.064 and 33.33


def ladder(axis: Axis, values: Sequence[Scalar]) -> list[float]:
    """The numbers of a list in rising order, with the values that may be added below and above.

    Three or more evenly spaced numbers go on with the same step. Otherwise the two numbers at an end decide: with
    their ratio if both are positive, else with their difference. A whole number is rounded to one, any other to
    four digits. The ladder ends where the recipe field's bounds do. It is empty for fewer than two numbers, which
    say nothing of a step.
    """
    numbers = sorted(numbers_of(values))
    if not axis.extend or len(numbers) < 2:
        return []
    even = _evenly_spaced(numbers)
    below = _beyond(axis, numbers[1], numbers[0], even)
    above = _beyond(axis, numbers[-2], numbers[-1], even)
    return [*reversed(below), *numbers, *above]


def _evenly_spaced(numbers: list[float]) -> bool:
    steps = [b - a for a, b in pairwise(numbers)]
    return len(steps) > 1 and all(math.isclose(step, steps[0], rel_tol=1e-9) for step in steps)


def _beyond(axis: Axis, before: float, last: float, even: bool) -> list[float]:
    """Up to `axis.extend` values after `last`, as it comes after `before`."""
    geometric = not even and min(before, last) > 0
    ratio, step = (last / before, 0.0) if geometric else (1.0, last - before)
    found: list[float] = []
    while len(found) < axis.extend:
        value = _rounded(axis, last * ratio + step, last)
        if (value - last) * (last - before) <= 0 or not is_value(axis.name, value):
            break
        found.append(value)
        before, last = last, value
    return found


def _rounded(axis: Axis, value: float, last: float) -> float:
    """As few digits as make it differ from the value before."""
    if not math.isfinite(value):
        return value
    if RECIPE_TYPES[axis.name] in (int, int | None):
        return round(value) if round(value) != last else last + (1 if value > last else -1)
    short = float(f"{value:.{DIGITS}g}")
    return short if (short - last) * (value - last) > 0 else value


def candidates(study: Study, arms: Sequence[tuple[Setting, list[tuple[Setting, Recipe]]]]) -> list[Candidates]:
    """For each arm, given as its levels and its tuned settings: the settings that its search may come to.

    A setting belongs to one arm only: left out are those that train the same as a setting of the study file, or as
    a candidate of an arm before.
    """
    if not any(axis.extend for axis in study.axes):
        return [{} for _ in arms]
    taken = {_trains(recipe) for _, settings in arms for _, recipe in settings}
    found: list[Candidates] = []
    for arm, settings in arms:
        own: dict[tuple[Scalar, ...], tuple[Setting, Recipe]] = {}
        for tuned, recipe in settings:
            for setting, changed in _variants(study, arm, tuned, recipe):
                if (trains := _trains(changed)) not in taken:
                    taken.add(trains)
                    own[tuple(setting.values())] = setting, changed
        found.append(own)
    return found


def _trains(recipe: Recipe) -> str:
    return fingerprint(decisive(recipe))


def _variants(study: Study, arm: Setting, tuned: Setting, recipe: Recipe) -> Iterable[tuple[Setting, Recipe]]:
    """This setting with all values that its extended axes may take, where such a recipe can be trained."""
    extended = [axis for axis in study.axes if axis.extend and axis.name in tuned]
    choices: list[list[Scalar]] = [
        [*ladder(axis, axis.choices({**arm, **tuned}))] or [tuned[axis.name]] for axis in extended
    ]
    for values in product(*choices):
        changes = {axis.name: value for axis, value in zip(extended, values, strict=True)}
        try:
            changed = replace(recipe, **changes)  # type: ignore[arg-type]
        except SettingError:
            continue
        if fits(changed, study.source.stored.tokens):
            yield {**tuned, **changes}, changed


def possible_levels(study: Study) -> dict[str, list[Scalar]]:
    """All levels of each axis, and those that may be added to it."""
    found = levels(study)
    for axis in study.axes:
        if axis.extend:
            lists = [axis.values, *(values for _, values in axis.by_parent)]
            found[axis.name] = list(
                dict.fromkeys([*found[axis.name], *(v for vs in lists for v in ladder(axis, vs))])
            )
    return found
