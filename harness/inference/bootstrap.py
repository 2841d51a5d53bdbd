"""Standard errors of means of clusters by the bootstrap: a check of those from variance components."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0


@dataclass(frozen=True)
class Clusters:
    """Values of members of clusters, several of which make an arm: latents, cells of a seed each, arms.

    values [n]; arms [n], clusters [n]: where each belongs; a cluster has one arm.
    """

    values: NDArray[np.float64]
    arms: NDArray[np.int64]
    clusters: NDArray[np.int64]

    def over_clusters(self) -> float | None:
        """Standard error of an arm's mean of clusters' means, over arms of two or more clusters.

        Of m clusters m − 1 are drawn each time, which makes the variance right for few of them (McCarthy & Snowden
        1985, Vital and Health Statistics 2/95); what is drawn within clusters varies between them, too. Root mean
        square over arms. None where no arm has two clusters.
        """
        random = np.random.default_rng(SEED)
        found = []
        for clusters in self._by_arm():
            if (count := len(clusters)) > 1:
                means = np.array([members.mean() for members in clusters])
                found.append(float(means[random.integers(count, size=(RESAMPLES, count - 1))].mean(1).var()))
        return math.sqrt(float(np.mean(found))) if found else None

    def over_members(self) -> float:
        """The same at these clusters, with members drawn anew within each."""
        random = np.random.default_rng(SEED)
        found = []
        for clusters in self._by_arm():
            drawn = [one[random.integers(len(one), size=(RESAMPLES, len(one)))].mean(1) for one in clusters]
            found.append(float(np.mean(drawn, axis=0).var()))
        return math.sqrt(float(np.mean(found)))

    def _by_arm(self) -> Iterator[list[NDArray[np.float64]]]:
        """Of each arm the members' values by cluster."""
        for arm in np.unique(self.arms):
            here = self.arms == arm
            yield [self.values[here & (self.clusters == cluster)] for cluster in np.unique(self.clusters[here])]
