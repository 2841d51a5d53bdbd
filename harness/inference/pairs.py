"""Means over pairs of seeds: how they vary, since the pairs of one seed vary together."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean


def pseudo_values(values: Mapping[int, float]) -> dict[int, float]:
    """One value per seed, whose variance over the number of seeds is that of the mean over all pairs.

    values: for each of n seeds the mean over its pairs with the other ones, h. Those are not independent: each
    pair is in two of them. The jackknife's pseudo-values are (Efron & Stein 1981; Arvesen 1969, of U-statistics)

        U + 2 (n - 1) / (n - 2) · (h - U),   U the mean of all h.

    Their variance is too large rather than too small, above all where pairs vary on their own. Two seeds are one
    pair, hence one value.
    """
    n, mean = len(values), fmean(values.values()) if values else 0.0
    if n < 3:
        return dict.fromkeys(list(values)[:1], mean)
    return {seed: mean + 2 * (n - 1) / (n - 2) * (value - mean) for seed, value in values.items()}
