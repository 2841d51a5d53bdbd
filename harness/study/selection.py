"""Which tuned setting an arm is compared at, so that no figure is reported on a seed that chose it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Generic, Literal, TypeVar

Setting = TypeVar("Setting")

Selection = Literal["on other seeds", "cross-fitted", "in-sample", "unselected", "not tuned"]
Scores = Mapping[Setting, Mapping[int, float]]


@dataclass(frozen=True)
class Choice(Generic[Setting]):
    """`shown`: best over all seeds. `by_seed`: the setting at which each seed is reported.

    Where nothing could be compared (`unselected`) both are the first setting, which nobody chose.
    """

    shown: Setting
    by_seed: dict[int, Setting]
    selection: Selection

    @property
    def agreeing(self) -> int:
        """Seeds that are reported at the shown setting."""
        return sum(setting == self.shown for setting in self.by_seed.values())


def choose(scores: Scores[Setting], seeds: Sequence[int], tuning_seeds: Sequence[int] = ()) -> Choice[Setting]:
    """The setting of each seed, chosen on others: on `tuning_seeds`, if there are any.

    Otherwise by leave-one-seed-out cross-fitting: each seed gets the setting that is best on the other seeds.
    scores: for each setting, in the order of the study file, the score of every seed: lower is better,
    infinite for one that was lost (diverged, failed), absent for one that is missing (not trained yet).

    Which settings are compared at all, and on which seeds, `comparable` decides for the arm as a whole, so a
    setting that was lost at a seed is not chosen for that seed either. A seed is chosen on itself, and the choice
    says `in-sample`, where it is the only one on which settings can be compared.
    """
    first = next(iter(scores))
    if len(scores) == 1:
        return Choice(first, dict.fromkeys(seeds, first), "not tuned")
    searched = tuning_seeds or seeds
    best = best_setting(scores, searched)
    if best is None:
        return Choice(first, dict.fromkeys(seeds, first), "unselected")
    if tuning_seeds:
        return Choice(best, dict.fromkeys(seeds, best), "on other seeds")
    settings, common = comparable(scores, seeds)
    compared = {setting: scores[setting] for setting in settings}
    others = {seed: [other for other in common if other != seed] or common for seed in seeds}
    by_seed = {seed: _lowest(compared, others[seed]) for seed in seeds}
    return Choice(best, by_seed, "in-sample" if len(common) == 1 else "cross-fitted")


def best_setting(scores: Scores[Setting], seeds: Sequence[int]) -> Setting | None:
    """The setting with the lowest mean score among those that can be compared, on the seeds that these all have.

    The earlier one of equals. None where nothing can be compared: every setting is lost, or no two share a seed.
    """
    settings, common = comparable(scores, seeds)
    return _lowest({setting: scores[setting] for setting in settings}, common) if common else None


def comparable(scores: Scores[Setting], seeds: Sequence[int]) -> tuple[list[Setting], list[int]]:
    """The settings of which one may be chosen, and the seeds on which they are compared: those that they all have.

    Only settings with the most finite scores; of these, those that lost the fewest seeds. The mean of the seeds
    that are left of a setting is no evidence for it: seeds differ in difficulty, and a setting that diverges at
    some would be preferred for the ones that it survives.
    """
    known = {name: {s for s in seeds if math.isfinite(row.get(s, math.inf))} for name, row in scores.items()}
    lost = {name: sum(seed in row for seed in seeds) - len(known[name]) for name, row in scores.items()}
    rank = {name: (-len(known[name]), lost[name]) for name in scores}
    settings = [name for name in scores if rank[name] == min(rank.values())]
    return settings, [seed for seed in seeds if all(seed in known[name] for name in settings)]


def _lowest(scores: Scores[Setting], seeds: Sequence[int]) -> Setting:
    return min(scores, key=lambda setting: fmean(scores[setting][seed] for seed in seeds))
