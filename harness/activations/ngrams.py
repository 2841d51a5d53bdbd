"""Unigram and bigram models: baselines for a trained language model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


class Unigram:
    """Add-one smoothed token frequencies."""

    def __init__(self, contexts: Ids, vocabulary: int) -> None:
        """`contexts`: token ids [contexts, context]."""
        counts = np.bincount(contexts.ravel(), minlength=vocabulary) + 1
        self.probability: Floats = counts / counts.sum()

    def loss(self, contexts: Ids) -> float:
        """Mean negative log-likelihood, in nats per token, of all tokens but the first of each context."""
        return float(-np.log(self.probability[contexts[:, 1:]]).mean())


class Bigram:
    """Interpolated Kneser-Ney model of pairs of neighbouring tokens.

    p(w|v) = (max(c(v,w) - d, 0) + d N(v,*) p1(w)) / c(v), with c the counts of pairs and N the numbers of
    distinct pairs; p1(w) = (max(N(*,w) - d1, 0) + d1 N1 / V) / N(*,*), with N1 the number of distinct
    second tokens (Chen & Goodman 1999, section 2.7, eq. 22-24). The discounts come from the training
    counts alone: d = n1 / (n1 + 2 n2), where n1 and n2 pairs were seen once and twice (Ney et al. 1994).
    """

    def __init__(self, contexts: Ids, vocabulary: int) -> None:
        """`contexts`: token ids [contexts, context]; pairs do not cross from one context to the next."""
        self.vocabulary = vocabulary
        self.pairs, self.counts = np.unique(_pairs(contexts, vocabulary), return_counts=True)
        first, second = np.divmod(self.pairs, vocabulary)
        self.discount = discount(self.counts)
        self.total = np.bincount(first, weights=self.counts, minlength=vocabulary)  # c(v) [V]
        self.distinct = np.bincount(first, minlength=vocabulary)  # N(v,*) [V]
        self.lower = _continuation(np.bincount(second, minlength=vocabulary))  # p1(w) [V]

    def loss(self, contexts: Ids) -> float:
        """Mean negative log-likelihood, in nats per token, of all tokens but the first of each context."""
        pairs = _pairs(contexts, self.vocabulary)
        first, second = np.divmod(pairs, self.vocabulary)
        place = np.minimum(np.searchsorted(self.pairs, pairs), len(self.pairs) - 1)
        count = np.where(self.pairs[place] == pairs, self.counts[place], 0)
        total, lower = self.total[first], self.lower[second]
        kept = np.maximum(count - self.discount, 0) + self.discount * self.distinct[first] * lower
        probability = np.where(total > 0, kept / np.maximum(total, 1), lower)  # [pairs]
        return float(-np.log(probability).mean())


def discount(counts: NDArray[np.int64]) -> float:
    """n1 / (n1 + 2 n2), or one half where the counts have no ones or no twos."""
    ones, twos = int((counts == 1).sum()), int((counts == 2).sum())
    return ones / (ones + 2 * twos) if ones and twos else 0.5


def _continuation(followers: NDArray[np.int64]) -> Floats:
    """p1 [V] from the number of distinct tokens before each token, N(*,w) [V]."""
    d = discount(followers)
    spread = d * np.count_nonzero(followers) / len(followers)
    return np.asarray((np.maximum(followers - d, 0) + spread) / followers.sum())


def _pairs(contexts: Ids, vocabulary: int) -> Ids:
    return (contexts[:, :-1] * vocabulary + contexts[:, 1:]).ravel()
