"""Many comparisons, and seeds that would settle one."""

from __future__ import annotations

import math
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.inference.family import expected_extreme, holm
from harness.inference.sample_size import seeds_needed, variance_bound


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]):
    """Marcus, Peritz & Gabriel 1976: one is rejected if every set of hypotheses with it in is."""
    places = range(len(p_values))
    sets = list(chain.from_iterable(combinations(places, size) for size in range(1, len(p_values) + 1)))
    closed = [max(len(s) * min(p_values[j] for j in s) for s in sets if i in s) for i in places]
    assert holm(p_values) == pytest.approx([min(1, p) for p in closed])


def test_holm_of_none_is_none():
    assert holm([]) == []


def test_the_lowest_of_nine_equal_means_of_three_seeds_is_too_low():
    assert expected_extreme(2) == pytest.approx(1 / math.pi**0.5)  # exact
    assert expected_extreme(9) / 3**0.5 == pytest.approx(0.86, abs=0.005)  # standard deviations of one seed


def test_upper_bound_of_a_standard_deviation():
    assert variance_bound(2) ** 0.5 == pytest.approx(2.12, abs=0.005)
    assert variance_bound(math.inf) == 1


def test_seeds_needed_give_the_power_that_they_promise():
    # two arms of known variance 1: (1.960 + 0.842)² · 2 / 1² = 15.7 seeds
    assert seeds_needed(1.0, 2.0, math.inf, 3, 0.025) == 16
    # of an estimate with 4 degrees of freedom: its bound is 4 / chi2(0.2, 4), and t replaces z
    n = seeds_needed(1.0, 2.0, 4, 3, 0.025)
    bound = 2.0 * 4 / stats.chi2.ppf(0.2, 4)
    fits = [
        stats.t.isf(0.025, 2 * (k - 1)) + stats.t.isf(0.2, 2 * (k - 1)) <= (k / bound) ** 0.5 for k in (n - 1, n)
    ]
    assert fits == [False, True]


@given(st.floats(0.05, 5), st.floats(0.1, 3), st.floats(1, 30))
def test_smaller_effects_need_more_seeds(distance: float, variance: float, df: float):
    near, far = (seeds_needed(d, variance, df, 3, 0.025) for d in (distance, 2 * distance))
    assert near is None or (far is not None and 3 < far <= near)


def test_what_no_number_of_seeds_settles_has_none():
    assert seeds_needed(0.0, 1.0, 4, 3, 0.025) is None
    assert seeds_needed(1e-3, 1.0, 4, 3, 0.025) is None
