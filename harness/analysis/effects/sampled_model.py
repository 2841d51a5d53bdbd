"""Effects of listed levels where the other axes are numbers drawn from ranges: least squares over all arms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.analysis.arms.arm import Arm
from harness.analysis.arms.measured import Weights
from harness.analysis.effects.additive_model import TOLERANCE, AdditiveModel, Term
from harness.analysis.results.levels import Level
from harness.analysis.results.records import DrawnRange, StudyRecord

Column = NDArray[np.float64]


@dataclass(frozen=True)
class SampledModel:
    """An intercept, a term for each listed level but the reference, and a parabola for each range.

    A parabola in the logarithm of numbers that were drawn evenly in it. Arms that do not have the axis, so that
    their number is outside of the range, have a term of their own.
    """

    study: StudyRecord
    arms: Sequence[Arm]

    @cached_property
    def terms(self) -> list[Term]:
        """Those of listed levels, in the order of the study file."""
        listed = AdditiveModel(self.study, self.arms).terms
        return [(axis, level) for axis, level in listed if axis not in self.study.ranges]

    @cached_property
    def table(self) -> Column:
        """[arms, columns], those of the terms after the intercept."""
        terms = (self._is(axis, level) for axis, level in self.terms)
        curves = (column for axis, drawn in self.study.ranges.items() for column in self._parabola(axis, drawn))
        return np.column_stack([np.ones(len(self.arms)), *terms, *curves])

    def effect(self, term: Term) -> Weights | None:
        """The weights of the arms' means in the estimate of a term; None where the arms do not tell."""
        wanted = np.zeros(self.table.shape[1])
        wanted[1 + self.terms.index(term)] = 1
        weights = wanted @ np.linalg.pinv(self.table)
        if not np.allclose(weights @ self.table, wanted, atol=TOLERANCE):
            return None
        return {place: float(weight) for place, weight in enumerate(weights) if abs(weight) > TOLERANCE}

    def _is(self, axis: str, level: Level) -> Column:
        return np.array([float(arm.levels[axis] == level) for arm in self.arms])

    def _parabola(self, axis: str, drawn: DrawnRange) -> Iterator[Column]:
        """Value and square, both from -1 to 1 and 0 for an arm without the axis, and a 1 for such an arm."""
        values = [_place(arm.levels[axis], drawn) for arm in self.arms]
        at = np.array([0.0 if value is None else value for value in values])
        yield at
        yield at**2
        yield np.array([float(value is None) for value in values])


def _place(level: Level, drawn: DrawnRange) -> float | None:
    """Where a number lies in its range, from -1 to 1."""
    if isinstance(level, bool) or not isinstance(level, int | float) or not drawn.low <= level <= drawn.high:
        return None
    low, value, high = (math.log(x) if drawn.log else x for x in (drawn.low, level, drawn.high))
    return 2 * (value - low) / (high - low) - 1
