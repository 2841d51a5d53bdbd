"""Chooses the tuned setting at which an arm is compared, on other seeds than those that are reported."""

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

    If nothing could be compared (`unselected`), both are the first setting.
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

    `comparable` decides for the whole arm which settings are compared and on which seeds, so a setting that was
    lost at a seed is not chosen for that seed either. If settings can be compared on one seed only, its setting is
    chosen on that seed itself: `in-sample`.
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
    """The setting with the lowest mean score among those that can be compared, on the seeds that they all have.

    The first one among equals. None if nothing can be compared: every setting is lost, or no two share a seed.
    """
    settings, common = comparable(scores, seeds)
    return _lowest({setting: scores[setting] for setting in settings}, common) if common else None


def comparable(scores: Scores[Setting], seeds: Sequence[int]) -> tuple[list[Setting], list[int]]:
    """The settings that are compared, and the seeds on which they are: those that all of them have.

    Only settings with the most finite scores; among these, those that lost the fewest seeds. The mean over the
    remaining seeds of a setting is no evidence for it: seeds differ in difficulty, and a setting that diverges at
    the hard ones would look better.
    """
    known = {name: {s for s in seeds if math.isfinite(row.get(s, math.inf))} for name, row in scores.items()}
    lost = {name: sum(seed in row for seed in seeds) - len(known[name]) for name, row in scores.items()}
    rank = {name: (-len(known[name]), lost[name]) for name in scores}
    settings = [name for name in scores if rank[name] == min(rank.values())]
    return settings, [seed for seed in seeds if all(seed in known[name] for name in settings)]


def _lowest(scores: Scores[Setting], seeds: Sequence[int]) -> Setting:
    return min(scores, key=lambda setting: fmean(scores[setting][seed] for seed in seeds))
