"""What the choice between tuned settings adds to the error of an arm's mean.

An arm's figure estimates this: choose the setting on that many seeds, then train one more seed there. So the
choice is part of the error: cross-fitted seeds share what chose for them, tuning seeds make one choice for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.inference.spread import Array

DRAWS = 2000


@dataclass(frozen=True)
class ChoiceError:
    """inflation: factor of the variance of the mean score of cross-fitted seeds.

    shares [settings], covariance [settings, settings]: of the seeds, how many are reported at each setting.
    Another figure, with the means mu at the settings, varies by mu' · covariance · mu, since another setting could
    have been chosen.
    """

    inflation: float
    shares: Array
    covariance: Array

    def variance(self, means: Sequence[float]) -> float:
        """mu' · covariance · mu."""
        mu = np.asarray(means, float) - float(np.mean(means))  # shares sum to 1: a constant has no part in it
        return max(0.0, float(mu @ self.covariance @ mu))


def cross_fitted(gaps: Sequence[float], seeds: int) -> ChoiceError:
    """Of seeds that are each reported at the setting that is best on the others, by a parametric bootstrap.

    gaps: of each setting, how far its mean score is above the lowest, in standard deviations of one seed.
    """
    return _cross_fitted(_rounded(gaps), seeds)


def on_other_seeds(gaps: Sequence[float], tuning_seeds: int) -> ChoiceError:
    """Of seeds that are all reported at the setting that is best on `tuning_seeds` others."""
    return _on_other_seeds(_rounded(gaps), tuning_seeds)


def _rounded(gaps: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(min(gap, 99.0), 6) for gap in gaps)


@lru_cache(maxsize=4096)
def _cross_fitted(gaps: tuple[float, ...], seeds: int) -> ChoiceError:
    scores = np.asarray(gaps)[:, None] + _normal(DRAWS, len(gaps), seeds)  # [draws, settings, seeds]
    chosen = (scores.sum(axis=2, keepdims=True) - scores).argmin(axis=1)  # [draws, seeds]
    reported = np.take_along_axis(scores, chosen[:, None, :], axis=1)[:, 0]
    shares = (chosen[:, :, None] == np.arange(len(gaps))).mean(axis=1)  # [draws, settings]
    return _error(seeds * float(reported.mean(axis=1).var()), shares)


@lru_cache(maxsize=4096)
def _on_other_seeds(gaps: tuple[float, ...], tuning_seeds: int) -> ChoiceError:
    scores = np.asarray(gaps) + _normal(DRAWS, len(gaps)) / math.sqrt(tuning_seeds)
    return _error(1.0, (scores.argmin(axis=1)[:, None] == np.arange(len(gaps))).astype(float))


def _normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape)


def _error(inflation: float, shares: Array) -> ChoiceError:
    """Rounded, so that tables are the same on every machine."""
    covariance = np.atleast_2d(np.cov(shares, rowvar=False))
    return ChoiceError(round(inflation, 3), np.round(shares.mean(axis=0), 4), np.round(covariance, 4))
