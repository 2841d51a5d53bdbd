"""Means over pairs of seeds: against the jackknife that leaves one seed out, and by how often intervals cover."""

from __future__ import annotations

from statistics import fmean, variance

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.inference.estimates import Sample, estimates
from harness.inference.pairs import pseudo_values

tables = st.integers(3, 6).flatmap(
    lambda n: st.lists(st.floats(0, 1), min_size=n * n, max_size=n * n).map(lambda x: np.reshape(x, (n, n)))
)


def of_seeds(table: np.ndarray) -> dict[int, float]:
    """Of a table of pairs [n, n], each seed's mean over the other ones."""
    n = len(table)
    return {s: fmean(table[s, t] for t in range(n) if t != s) for s in range(n)}


@given(tables)
def test_they_are_those_of_leaving_one_seed_out(table):
    pairs = (table + table.T) / 2
    found = pseudo_values(of_seeds(pairs))
    n, whole = len(pairs), fmean(of_seeds(pairs).values())
    for seed in range(n):
        without = np.delete(np.delete(pairs, seed, 0), seed, 1)
        assert found[seed] == pytest.approx(n * whole - (n - 1) * fmean(of_seeds(without).values()))
    assert fmean(found.values()) == pytest.approx(whole)


def test_by_hand():
    """Pairs 0.2, 0.4, 0.6: seeds have 0.3, 0.4, 0.5, and are 4 times as far apart."""
    assert pseudo_values({7: 0.3, 8: 0.4, 9: 0.5}) == pytest.approx({7: 0.0, 8: 0.4, 9: 0.8})


def test_two_seeds_are_one_pair_and_one_value():
    assert pseudo_values({3: 0.5, 4: 0.5}) == {3: 0.5}
    assert pseudo_values({3: 0.5}) == {3: 0.5}
    assert pseudo_values({}) == {}


@pytest.mark.parametrize("own", [0.0, 0.5, 3.0], ids=["seeds alone", "both", "pairs alone"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover(seeds, own):
    """Six arms without a difference; what a pair shares with no other one varies `own` times as much as a seed."""
    random = np.random.default_rng([seeds, int(own)])
    inside = plain = 0
    studies = 300
    for _ in range(studies):
        arms = []
        for _ in range(6):
            seed, noise = random.normal(size=seeds), np.triu(random.normal(size=(seeds, seeds)), 1)
            arms.append(of_seeds(seed[:, None] + seed + own * (noise + noise.T)))
        for values, counts in ((pseudo_values, True), (dict, False)):
            found = estimates([Sample(list(values(arm).values())) for arm in arms])
            contrast = found.contrast({0: 1.0, 1: -1.0})
            assert contrast is not None
            low, high = contrast.interval()
            covers = low <= 0 <= high
            inside, plain = inside + (covers and counts), plain + (covers and not counts)
    assert inside / studies > 0.93
    assert plain / studies < inside / studies  # as if each seed's own mean were independent of the others'


def test_the_variance_is_that_of_the_mean_where_seeds_add_up():
    random = np.random.default_rng(0)
    means, squared_errors = [], []
    for _ in range(4000):
        seed = random.normal(size=4)
        found = pseudo_values(of_seeds(seed[:, None] + seed))
        means.append(fmean(found.values()))
        squared_errors.append(variance(found.values()) / 4)
    assert fmean(squared_errors) == pytest.approx(variance(means), rel=0.08)
