"""Latents found again, against numpy's correlations and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.interpretability import matching
from harness.interpretability.firings import Firings
from harness.interpretability.matching import alike, figures_of_pairs, found_again

TOKENS = 60


def firings_from(values: NDArray[np.float64]) -> Firings:
    """Of activations [T, N]."""
    latents, tokens = values.T.nonzero()
    return Firings(tokens, latents, values.T[latents, tokens].astype(np.float32), len(values), (values.shape[1],))


def some(seed: int, latents: int = 12) -> NDArray[np.float64]:
    """Latents that fire on a tenth of the tokens, dead ones and one that is constant among them."""
    random = np.random.default_rng(seed)
    values = random.random((TOKENS, latents)) * (random.random((TOKENS, latents)) < 0.1)
    values[:, 3] = 0
    values[:, 5] = 1
    return values


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_alike_are_those_that_numpy_says_correlate(one, other):
    ours, theirs = some(one), some(other, 9)
    theirs[:, 0] = ours[:, 0] + 0.1 * theirs[:, 0]
    with np.errstate(invalid="ignore"):
        correlations = np.corrcoef(ours.T, theirs.T)[:12, 12:]
    found = alike(firings_from(ours), firings_from(theirs)).toarray()
    assert np.array_equal(found > 0, np.nan_to_num(correlations) > 0.7)


def test_a_permuted_copy_is_found_again_but_for_what_is_dead_or_constant(monkeypatch):
    monkeypatch.setattr(matching, "ROWS", 5)
    values = some(0)
    order = np.random.default_rng(1).permutation(12)
    shares = found_again(firings_from(values), [firings_from(2 * values[:, order])])
    assert shares is not None
    assert np.flatnonzero(shares == 0).tolist() == [3, 5]
    assert set(shares) == {0, 1}


@given(st.integers(0, 1000))
def test_each_of_two_saes_finds_as_many_in_the_other(seed):
    random = np.random.default_rng(seed)
    ours = some(seed)
    theirs = ours[:, random.integers(0, 12, 12)] * random.uniform(0, 1, (TOKENS, 12)) ** 0.7
    one, other = firings_from(ours), firings_from(theirs)
    assert found_again(one, [other]).sum() == found_again(other, [one]).sum()


def test_a_latent_has_one_partner_only():
    """The other SAE has split a latent: two that fire on the same tokens are one there, and each may have it."""
    whole = np.zeros((TOKENS, 1))
    whole[:10] = 1
    twice = np.concatenate([whole, whole], axis=1)
    assert found_again(firings_from(twice), [firings_from(whole)]).sum() == 1
    assert found_again(firings_from(whole), [firings_from(twice)]).sum() == 1


def test_the_mean_over_the_other_seeds_by_hand():
    values = np.zeros((TOKENS, 3))
    values[:8, 0], values[8:10, 1] = 1, 2
    without_second = values * [1, 0, 0]
    one = firings_from(values)
    shares = found_again(one, [firings_from(values), firings_from(without_second)])
    assert shares.tolist() == [1, 0.5, 0]
    assert figures_of_pairs(shares, one.rates) == {
        "found_again": pytest.approx(0.5),
        "found_again_weighted": pytest.approx((8 * 1 + 2 * 0.5) / 10),
    }


def test_without_other_seeds_and_without_firings():
    one = firings_from(some(0))
    assert found_again(one, []) is None
    silent = firings_from(np.zeros((TOKENS, 4)))
    shares = found_again(silent, [one])
    assert shares.tolist() == [0] * 4
    assert figures_of_pairs(shares, silent.rates) == {"found_again": 0}


def test_other_tokens_are_refused():
    with pytest.raises(ValueError, match="the same tokens, got 60 and 50"):
        found_again(firings_from(some(0)), [firings_from(some(0)[:50])])
