"""Main effects without matched arms, as in a fraction of a factorial: least squares, as if effects added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.analysis.arms.arm import Arm
from harness.analysis.arms.measured import Weights
from harness.analysis.results.levels import Level
from harness.analysis.results.records import StudyRecord

Term: TypeAlias = tuple[str, Level]  # a level of an axis, against the axis' reference

TOLERANCE = 1e-8


@dataclass(frozen=True)
class AdditiveModel:
    """An intercept and a term for each level but the reference that some of the arms have.

    Estimates are weights of the arms' means, by the arms' places.
    """

    study: StudyRecord
    arms: Sequence[Arm]

    @cached_property
    def terms(self) -> list[Term]:
        """All terms, in the order of the study file."""
        levels = {axis: {arm.levels[axis] for arm in self.arms} for axis in self.study.compared}
        return [
            (axis, level)
            for axis in self.study.compared
            for level in sorted(levels[axis], key=lambda level: self.study.rank([axis], (level,)))
            if level != self.study.reference(axis)
        ]

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """[arms, 1 + terms]: 1 for the intercept and for each term that an arm has."""
        return np.array([[1.0, *(arm.levels[axis] == level for axis, level in self.terms)] for arm in self.arms])

    def effect(self, term: Term) -> Weights | None:
        """The least-squares estimate of a term; None where the arms do not tell it from others."""
        if term not in self.terms:
            return None
        wanted = np.array([0.0, *(other == term for other in self.terms)])
        inverse = np.linalg.pinv(self.table)
        if not np.allclose(wanted @ inverse @ self.table, wanted, atol=TOLERANCE):
            return None
        return _weights(wanted @ inverse)

    def residuals(self) -> list[Weights]:
        """Independent contrasts of the arms that are 0 where effects add up."""
        left, sizes, _ = np.linalg.svd(self.table)
        rank = int((sizes > TOLERANCE * sizes[0]).sum())
        return [_weights(column) for column in left.T[rank:]]


def _weights(values: NDArray[np.float64]) -> Weights:
    return {place: float(value) for place, value in enumerate(values) if abs(value) > TOLERANCE}
