"""Effects in a fraction of a factorial, or in a sample: no two arms need be equal in all but one axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.analysis.arms.arm import Arm
from harness.analysis.arms.measured import Weights
from harness.analysis.effects.additive_model import AdditiveModel
from harness.analysis.effects.sampled_model import SampledModel
from harness.analysis.results.levels import Level
from harness.analysis.results.records import StudyRecord
from harness.metrics import FVU

Model: TypeAlias = AdditiveModel | SampledModel
MODELS: dict[str, type[Model]] = {"fraction": AdditiveModel, "sampled": SampledModel}  # by design
FEWEST = 2  # seeds of an arm whose spread can be known


@dataclass(frozen=True)
class MainEffect:
    """A level against its axis' reference, as a weighted sum of the means of arms.

    weights, arms, references: by the arms' places; the latter are those at the level and at the reference.
    known: how many arms it is estimated from.
    """

    axis: str
    level: Level
    weights: Weights
    arms: list[int]
    references: list[int]
    known: int

    @property
    def holding(self) -> str:
        """What is said in the place of what a pair of arms has in common."""
        return f"from {self.known} arms, as if axes did not interact"


def main_effects(study: StudyRecord, arms: Sequence[Arm]) -> Iterator[MainEffect]:
    """Those that the arms with results can tell from each other, in the order of the study file."""
    places = _with_results(arms)
    model = MODELS[study.design](study, [arms[place] for place in places])
    for axis, level in model.terms if places else ():
        if (weights := model.effect((axis, level))) is not None:
            at, reference = (
                [place for place in places if arms[place].levels[axis] == side]
                for side in (level, study.reference(axis))
            )
            named = {places[place]: weight for place, weight in weights.items()}
            yield MainEffect(axis, level, named, at, reference, len(places))


def _with_results(arms: Sequence[Arm]) -> list[int]:
    """Arms with two seeds or more; if there are none, those with any."""
    seeds = [len(arm.values(FVU.name)) for arm in arms]
    fewest = min(FEWEST, max(seeds, default=0)) or 1
    return [place for place, number in enumerate(seeds) if number >= fewest]
