"""Which tuned setting an arm is compared at, so that no figure is reported on a seed that chose it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Generic, Literal, TypeVar

Setting = TypeVar("Setting")

Selection = Literal["on other seeds", "cross-fitted", "in-sample", "not tuned"]


@dataclass(frozen=True)
class Choice(Generic[Setting]):
    """`shown`: best over all seeds. `by_seed`: the setting at which each seed is reported."""

    shown: Setting
    by_seed: dict[int, Setting]
    selection: Selection

    @property
    def agreeing(self) -> int:
        """Seeds that are reported at the shown setting."""
        return sum(setting == self.shown for setting in self.by_seed.values())


def choose(
    scores: Mapping[Setting, Mapping[int, float]], seeds: Sequence[int], tuning_seeds: Sequence[int] = ()
) -> Choice[Setting]:
    """The setting of each seed, chosen on others: on `tuning_seeds`, if there are any.

    Otherwise by leave-one-seed-out cross-fitting: each seed gets the setting that is best on the other seeds.
    scores: for each setting, in the order of the study file, the score of every seed: lower is better,
    infinite for one that was lost (diverged, failed), absent for one that is missing (not trained yet). A seed
    whose others have no finite score at all is chosen on itself, and the choice says `in-sample`.
    """
    if tuning_seeds and len(scores) > 1:
        best = best_setting(scores, tuning_seeds)
        return Choice(best, dict.fromkeys(seeds, best), "on other seeds")
    by_seed: dict[int, Setting] = {}
    selection: Selection = "not tuned" if len(scores) == 1 else "cross-fitted"
    for seed in seeds:
        others = [other for other in seeds if other != seed]
        known = any(math.isfinite(scores[setting].get(other, math.inf)) for setting in scores for other in others)
        if not known and selection == "cross-fitted":
            selection = "in-sample"
        by_seed[seed] = best_setting(scores, others if known else [seed])
    return Choice(best_setting(scores, seeds), by_seed, selection)


def best_setting(scores: Mapping[Setting, Mapping[int, float]], seeds: Sequence[int]) -> Setting:
    """The setting with the lowest mean score over `seeds`; the earlier one of equals.

    A setting that lost a seed comes after all that lost none (after all that lost fewer, where all lost some),
    since the mean of the survivors would hide what it lost. One without any score comes last.
    """

    def badness(setting: Setting) -> tuple[bool, int, float]:
        values = [scores[setting][seed] for seed in seeds if seed in scores[setting]]
        finite = [value for value in values if math.isfinite(value)]
        return not finite, len(values) - len(finite), fmean(finite) if finite else math.inf

    return min(scores, key=badness)
