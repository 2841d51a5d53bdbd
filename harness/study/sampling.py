"""The arms of a sampled design, drawn by one of Optuna's samplers: the same ones for the same study file."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from harness.study.axes import Axis, Setting
from harness.study.designs import Design
from harness.study.ranges import Range
from harness.study.recipe import Scalar
from harness.yaml_file import YamlFile

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

Choices: TypeAlias = Range | tuple[Scalar, ...]
Draw: TypeAlias = Mapping[str, Any]  # by names of `_name`: a number, or the place of a level

DIGITS = 4  # significant ones of a number that is drawn
MOST_TRIES = 20  # draws for each arm, since drawn levels may be the same as before


class Drawn(NamedTuple):
    """A level that was drawn for one arm, under this level of the axis' parent (None: no condition)."""

    axis: str
    within: Scalar
    level: Scalar


def sampled(
    file: YamlFile, axes: Sequence[Axis], design: Design, start: Setting
) -> tuple[tuple[Axis, ...], tuple[Setting, ...]]:
    """The axes, each range replaced by the numbers drawn from it, and the arms: levels of the untuned axes.

    start: the recipe fields without the axes. Conditions hold as in a factorial. Raises UserError if the axes do
    not have that many different arms.
    """
    untuned = [axis for axis in axes if not axis.tune]
    found: dict[tuple[Scalar, ...], list[Drawn]] = {}
    for draw in _draws(untuned, design):
        arm = list(_arm(untuned, draw, start))
        found.setdefault(tuple(value for one in arm for value in one), arm)
        if len(found) == design.arms:
            break
    else:
        message = f"expected at most {len(found)}: no other arms were drawn in {MOST_TRIES * design.arms:,} tries"
        raise file.error(("design", "sampled"), message)
    drawn = {one for arm in found.values() for one in arm}
    arms = tuple({one.axis: one.level for one in arm} for arm in found.values())
    return tuple(_with_drawn(axis, drawn) for axis in axes), arms


def _with_drawn(axis: Axis, drawn: Collection[Drawn]) -> Axis:
    """The axis with the drawn numbers as the levels of its ranges, in ascending order."""

    def levels(within: Scalar) -> tuple[Scalar, ...]:
        numbers = {one.level for one in drawn if (one.axis, one.within) == (axis.name, within)}
        return tuple(sorted(numbers))  # type: ignore[type-var]

    if axis.parent is None:
        return replace(axis, values=levels(None)) if axis.ranges else axis
    by_parent = ((level, levels(level) if level in axis.ranges else values) for level, values in axis.by_parent)
    return replace(axis, by_parent=tuple(by_parent))


def _contexts(axis: Axis) -> list[tuple[Scalar, Choices]]:
    """What it is drawn from at each level of its parent; None if it has no condition."""
    if axis.parent is None:
        return [(None, axis.ranges.get(None, axis.values))]
    return [(level, axis.ranges.get(level, values)) for level, values in axis.by_parent]


def _name(axis: Axis, context: int) -> str:
    """What Optuna calls it: the same axis is drawn anew under each level of its parent."""
    return f"{axis.name} {context}"


def _arm(axes: Sequence[Axis], draw: Draw, start: Setting) -> Iterator[Drawn]:
    values = dict(start)
    for axis in axes:
        for number, (within, choices) in enumerate(_contexts(axis)):
            if axis.parent is None or values.get(axis.parent) == within:
                drawn = draw[_name(axis, number)]
                level = _rounded(drawn, choices) if isinstance(choices, Range) else choices[drawn]
                values |= {axis.name: level, **axis.fields(level)}
                yield Drawn(axis.name, within, level)
                break


def _rounded(drawn: float, choices: Range) -> Scalar:
    if choices.whole:
        return int(drawn)
    return min(max(float(f"{drawn:.{DIGITS}g}"), choices.low), choices.high)


def _draws(axes: Sequence[Axis], design: Design) -> Iterator[Draw]:
    """Points of Optuna's sampler, in its order."""
    import optuna

    space = {
        _name(axis, number): _distribution(choices)
        for axis in axes
        for number, (_, choices) in enumerate(_contexts(axis))
    }
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(sampler=_sampler(design))
        study.tell(study.ask(space), 0)  # drawn before the sampler knows all axes, and so not in its sequence
        for _ in range(MOST_TRIES * design.arms):
            trial = study.ask(space)
            study.tell(trial, 0)
            yield trial.params
    finally:
        optuna.logging.set_verbosity(verbosity)


def _sampler(design: Design) -> BaseSampler:
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import QMCSampler, RandomSampler

    if design.sampler == "random":
        return RandomSampler(seed=design.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return QMCSampler(seed=design.seed, scramble=True)


def _distribution(choices: Choices) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(choices, Range):
        return CategoricalDistribution(range(len(choices)))
    if choices.whole:
        return IntDistribution(int(choices.low), int(choices.high), log=choices.log)
    return FloatDistribution(choices.low, choices.high, log=choices.log)
