"""How many seeds would settle what is undecided."""

from __future__ import annotations

import math
from bisect import bisect_left

from scipy import special

from harness.inference.constants import POWER, t_quantile

MOST_SEEDS = 1000


def variance_bound(df: float, confidence: float = POWER) -> float:
    """The upper confidence bound of a variance, in units of its estimate: df / chi2(1 − confidence, df).

    At 80 % and 2 degrees of freedom 4.48, hence 2.12 of a standard deviation: a sample size from the estimate
    itself would be too small in more than half of cases (Browne 1995, Statistics in Medicine 14).
    """
    return 1.0 if math.isinf(df) else df / (2 * float(special.gammaincinv(df / 2, 1 - confidence)))


def seeds_needed(distance: float, seed_variance: float, df: float, seeds: int, tail: float) -> int | None:
    """Seeds in each arm at which a contrast would be told from what is `distance` away, in 80 % of cases.

    The smallest n with (t(1 − tail, ν) + t(0.8, ν)) · sqrt(S / n) ≤ distance, S being the upper bound of
    `seed_variance` (that of the contrast at one seed in each arm), which has `df` degrees of freedom from `seeds`
    seeds, and ν = df · (n − 1) / (seeds − 1). None where more than 1,000 would be needed.
    """
    if distance <= 0 or seeds < 2:
        return None
    bound = seed_variance * variance_bound(df)

    def settles(n: int) -> bool:
        later = df * (n - 1) / (seeds - 1)
        quantiles = t_quantile(tail, later) + t_quantile(1 - POWER, later)
        return quantiles * math.sqrt(bound / n) <= distance

    numbers = range(seeds + 1, MOST_SEEDS + 1)
    place = bisect_left(numbers, True, key=settles)
    return numbers[place] if place < len(numbers) else None
