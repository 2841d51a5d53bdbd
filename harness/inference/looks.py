"""Planned looks: a study may be judged several times, as seeds are added, if each time is judged more strictly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import special
from scipy.stats import qmc

from harness.inference.constants import ALPHA

POINTS = 15  # 2^15 points of a Sobol sequence: the level is right to 0.0002


def level(looks: Sequence[int]) -> float:
    """The level of each look at which all of them together err in 5 % of cases where there is no difference.

    looks: numbers of seeds at each look, increasing, each at least 2, as in `[3, 5, 8]`, where it is 0.020.
    The same level at each look is the rule of Pocock 1977 (Biometrika 64), whose constants are for equal steps and
    a known variance. This is for the given steps and a variance that is estimated anew at each look with n − 1
    degrees of freedom, the fewest that any comparison has: with more, the level could be less strict (0.022 where
    the variance is known).

    Raises ValueError if the numbers do not increase or the first is below 2.
    """
    if not looks or looks[0] < 2 or any(after <= before for before, after in pairwise(looks)):
        raise ValueError(f"expected increasing numbers of seeds from 2 on, got {list(looks)}")
    return ALPHA if len(looks) == 1 else _level(tuple(looks))


@lru_cache
def _level(looks: tuple[int, ...]) -> float:
    """The ALPHA quantile of the smallest p-value of all looks, of means and sums of squares drawn look by look."""
    steps = len(looks)
    uniform = qmc.Sobol(2 * steps, rng=0).random_base2(POINTS)
    normal, chi = special.ndtri(uniform[:, :steps]), uniform[:, steps:]
    mean, squares, smallest = np.zeros(len(uniform)), np.zeros(len(uniform)), np.ones(len(uniform))
    before = 0
    for step, n in enumerate(looks):
        added = n - before
        new = normal[:, step] / np.sqrt(added)  # mean of the seeds that this look adds, of variance 1
        if added > 1:
            squares = squares + 2 * special.gammaincinv((added - 1) / 2, chi[:, step])
        squares = squares + before * added / n * (new - mean) ** 2  # Chan et al. 1979
        mean = (before * mean + added * new) / n
        t = mean / np.sqrt(squares / (n - 1) / n)
        smallest = np.minimum(smallest, 2 * special.stdtr(n - 1, -np.abs(t)))
        before = n
    return float(np.quantile(smallest, ALPHA))
