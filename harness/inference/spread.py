"""Variances of arms with few seeds each, moderated: drawn towards the mean over all arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

PRIOR_DF = 2  # the pooled variance counts as much as this many degrees of freedom of an arm's own

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spreads:
    """Moderated variances of arms, and how certain they are.

    variances [arms]: of one seed. df [arms]: the degrees of freedom that each would have if the pooled variance
    were known; infinite where it is not estimated. shares [arms, arms]: the weight of each arm's own variance in
    each moderated one. own_df [arms]: degrees of freedom of the own variances, 0 of those not in the pool.
    """

    variances: Array
    df: Array
    shares: Array
    own_df: Array

    def degrees(self, weights: Array) -> float:
        """Degrees of freedom of sum(weights · variances), weights ≥ 0.

        The smaller of two approximations of Satterthwaite 1946: that the moderated variances are independent, and
        that all arms have the same variance, so that they are dependent through the pool.
        """
        w = weights
        used = w > 0
        parts = w[used] * self.variances[used]
        if not parts.sum() > 0:
            parts = w[used]  # all variances are 0
        independent = float(np.sum(parts**2 / self.df[used]))
        pooled = w @ self.shares
        known = self.own_df > 0
        dependent = float(np.sum(pooled[known] ** 2 / self.own_df[known]))
        found = (
            float(numerator) ** 2 / denominator if denominator > 0 else math.inf
            for numerator, denominator in ((parts.sum(), independent), (w.sum(), dependent))
        )
        return min(found)


def moderated(variances: Sequence[float], df: Sequence[int], least: Sequence[float | None] = ()) -> Spreads:
    """Each arm's variance weighted with the pooled one, (d0 · pooled + df · own) / (d0 + df); at least its own.

    The form is that of limma (Smyth 2004, section 4) with a fixed prior weight d0 = 2 · min(1, 2p), p of
    Bartlett's test that all arms have the same variance: 2 where nothing speaks against it, 0 where the spreads
    plainly differ. Simulations chose these constants (docs/statistics.md): an estimated weight, as in limma, or
    one of 4 covers the noisiest arm too rarely.

    least: of arms that have one, the variance that they are known to have at least. An arm without degrees of
    freedom (df 0) has the pooled variance.
    """
    own, d = np.asarray(variances, float), np.asarray(df, float)
    floor = np.array([0.0 if value is None else value for value in least or [None] * len(own)])
    total = d.sum()
    of_pool = d / total if total else d
    pooled = d > 0
    d0 = _prior_df(own[pooled], d[pooled])
    weight = np.where(pooled, d0 + d, total)
    shares = np.where(pooled, d0 / np.maximum(weight, 1), 1.0)[:, None] * of_pool
    shares[np.diag_indices(len(own))] += np.where(pooled, d / np.maximum(weight, 1), 0.0)
    m = np.maximum(shares @ own, np.where(pooled, own, 0.0))
    return Spreads(np.maximum(m, floor), np.where(weight > 0, weight, math.inf), shares, d)


def variance(values: Sequence[float]) -> float:
    """The sample variance of two or more values, exactly 0 where they are all the same."""
    shifted = [value - values[0] for value in values]
    mean = math.fsum(shifted) / len(shifted)
    return math.fsum((value - mean) ** 2 for value in shifted) / (len(shifted) - 1)


def _prior_df(variances: Array, df: Array) -> float:
    positive = variances > 0
    if positive.sum() < 2:
        return float(PRIOR_DF)
    return PRIOR_DF * min(1.0, 2 * bartlett(variances[positive], df[positive]))


def bartlett(variances: Array, df: Array) -> float:
    """p-value of Bartlett's test that all variances are equal, from positive sample variances and their df."""
    total, k = df.sum(), len(df)
    pooled = float(df @ variances) / total
    statistic = total * math.log(pooled) - float(df @ np.log(variances))
    correction = 1 + (float(np.sum(1 / df)) - 1 / total) / (3 * (k - 1))
    return float(stats.chi2.sf(statistic / correction, k - 1))
