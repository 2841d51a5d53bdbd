"""The counting models, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.activations.ngrams import Bigram, Unigram, discount


def test_unigram() -> None:
    model = Unigram(np.array([[0, 0, 1]]), vocabulary=3)  # (2 + 1, 1 + 1, 0 + 1) of 6
    assert model.loss(np.array([[2, 0, 2]])) == pytest.approx(-(np.log(3 / 6) + np.log(1 / 6)) / 2)


def test_bigram() -> None:
    # Pairs: 01 twice, 02 once, 12 once; discount 2 / (2 + 2 * 1) = 1/2.
    # Distinct tokens before 0, 1, 2: none, 1, 2, so ones = twos = 1 and the lower discount is 1/3; it spreads
    # 1/3 * 2 over 3 tokens, 2/9 each: p1 = (2/9, 2/3 + 2/9, 5/3 + 2/9) / 3 = (2, 8, 17) / 27.
    model = Bigram(np.array([[0, 1], [0, 1], [0, 2], [1, 2]]), vocabulary=3)
    seen = (2 - 1 / 2 + 1 / 2 * 2 * 8 / 27) / 3  # 01
    unseen = 1 / 2 * 2 * 2 / 27 / 3  # 00
    new_context = 17 / 27  # 22: nothing was seen after 2
    assert model.loss(np.array([[0, 1]])) == pytest.approx(-np.log(seen))
    assert model.loss(np.array([[0, 0]])) == pytest.approx(-np.log(unseen))
    assert model.loss(np.array([[2, 2]])) == pytest.approx(-np.log(new_context))


def test_probabilities_after_any_token_sum_to_one() -> None:
    generator = np.random.default_rng(0)
    model = Bigram(generator.integers(0, 6, (20, 5)), vocabulary=7)  # token 6 is never seen
    for first in range(7):
        assert sum(np.exp(-model.loss(np.array([[first, w]]))) for w in range(7)) == pytest.approx(1)


def test_discount_without_ones_or_twos() -> None:
    assert discount(np.array([3, 3, 1])) == 0.5
