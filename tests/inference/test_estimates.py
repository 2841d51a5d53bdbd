"""Means, intervals and tests of a few seeds: against scipy, by hand, and laws that hold for all numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.inference.estimates import Sample, estimates
from harness.inference.spread import moderated

DIFFERENCE = {0: 1.0, 1: -1.0}
some = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=2, max_size=8)


def test_two_arms_of_equal_size_and_spread_have_students_t_test():
    one, other = [1.0, 2.0, 4.0], [3.0, 4.0, 6.0]
    contrast = estimates([Sample(one), Sample(other)]).contrast(DIFFERENCE)
    test = stats.ttest_ind(one, other)
    assert contrast is not None
    assert (contrast.value, contrast.df) == pytest.approx((-2, 4))
    assert contrast.p_value() == pytest.approx(test.pvalue, rel=1e-6)
    assert contrast.interval() == pytest.approx(tuple(test.confidence_interval()))


def test_two_one_sided_tests_are_those_of_scipy():
    one, other = [1.0, 2.0, 4.0], [1.1, 2.1, 4.1]
    contrast = estimates([Sample(one), Sample(other)]).contrast(DIFFERENCE)
    assert contrast is not None
    above = stats.ttest_ind(np.array(one) + 3, other, alternative="greater").pvalue
    below = stats.ttest_ind(np.array(one) - 3, other, alternative="less").pvalue
    assert contrast.p_equivalent(-3, 3) == pytest.approx(max(above, below), rel=1e-6)
    assert contrast.p_equivalent(-0.05, 0.05) == 1  # the estimate itself lies outside


def test_moderated_variance_by_hand():
    # pool = (2 · 1 + 2 · 4) / 4 = 2.5; Bartlett's p is 0.41, so the prior counts 2 · min(1, 0.82) = 1.64
    spreads = moderated([1.0, 4.0], [2, 2])
    p = stats.chi2.sf((4 * math.log(2.5) - 2 * math.log(1) - 2 * math.log(4)) / (1 + (1 - 0.25) / 3), 1)
    prior = 2 * min(1, 2 * p)
    assert spreads.variances[0] == pytest.approx((prior * 2.5 + 2 * 1.0) / (prior + 2))
    assert spreads.variances[1] == 4.0  # never below its own
    assert spreads.df.tolist() == pytest.approx([prior + 2] * 2)


def test_bartletts_test_is_that_of_scipy():
    from harness.inference.spread import bartlett

    groups = [[1.0, 2.0, 4.0], [2.0, 2.5, 9.0, 1.0], [0.1, 0.2]]
    own = np.array([np.var(group, ddof=1) for group in groups])
    assert bartlett(own, np.array([2.0, 3.0, 1.0])) == pytest.approx(stats.bartlett(*groups).pvalue)


def test_one_arm_alone_has_students_interval():
    found = estimates([Sample([1.0, 2.0, 3.0])])
    mean = found.means[0]
    assert mean is not None
    assert mean.bounds(0.025, found.df({0: 1.0})) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_an_arm_with_one_seed_has_no_estimate():
    found = estimates([Sample([1.0]), Sample([1.0, 2.0]), Sample([])])
    assert [mean is None for mean in found.means] == [True, False, True]
    assert found.contrast(DIFFERENCE) is None


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused(lost: float):
    with pytest.raises(ValueError, match="finite"):
        estimates([Sample([1.0, lost])])


def test_no_spread_at_all_is_a_difference_without_doubt():
    contrast = estimates([Sample([1.0, 1.0]), Sample([2.0, 2.0])]).contrast(DIFFERENCE)
    assert contrast is not None
    assert contrast.interval() == (-1.0, -1.0)
    assert contrast.p_value() <= 1e-11


@given(some, some, st.floats(0.1, 10), st.floats(-10, 10))
def test_contrasts_move_stretch_and_turn_with_their_values(one, other, scale, shift):
    before = estimates([Sample(one), Sample(other)]).contrast(DIFFERENCE)
    moved = [Sample([scale * value + shift for value in values]) for values in (one, other)]
    after, turned = (
        estimates(moved).contrast(DIFFERENCE),
        estimates([Sample(other), Sample(one)]).contrast(DIFFERENCE),
    )
    assert before is not None
    assert after is not None
    assert turned is not None
    assert after.interval() == pytest.approx([scale * end for end in before.interval()], rel=1e-6, abs=1e-6)
    assert turned.interval() == pytest.approx([-end for end in reversed(before.interval())], rel=1e-9, abs=1e-9)


@given(some, some)
def test_p_value_and_interval_say_the_same(one, other):
    contrast = estimates([Sample(one), Sample(other)]).contrast(DIFFERENCE)
    assert contrast is not None
    low, high = contrast.interval()
    if min(abs(low), abs(high)) > 1e-9:
        assert (contrast.p_value() < 0.05) == (low > 0 or high < 0)


counts = st.lists(st.integers(0, 64), min_size=2, max_size=6)


@given(counts, counts)
def test_shares_and_their_differences_stay_possible(one, other):
    found = estimates([Sample([count / 64 for count in values], total=64) for values in (one, other)])
    for arm, mean in enumerate(found.means):
        assert mean is not None
        low, high = mean.bounds(0.025, found.df({arm: 1.0}))
        assert 0 <= low <= mean.mean <= high <= 1
        assert low < high
    contrast = found.contrast(DIFFERENCE)
    assert contrast is not None
    low, high = contrast.interval()
    assert -1 <= low <= contrast.value <= high <= 1


def test_large_shares_of_binomial_spread_have_the_usual_interval():
    rng = np.random.default_rng(3)
    values = rng.binomial(1000, 0.3, 40) / 1000
    found = estimates([Sample(list(values), total=1000)])
    mean = found.means[0]
    assert mean is not None
    usual = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert mean.bounds(0.025, found.df({0: 1.0})) == pytest.approx(usual, abs=2e-5)


def test_no_event_in_any_seed_has_the_interval_of_jeffreys():
    found = estimates([Sample([0.0] * 3, total=1024), Sample([0.0] * 3, total=1024)])
    mean, contrast = found.means[0], found.contrast(DIFFERENCE)
    assert mean is not None
    assert contrast is not None
    upper = stats.beta.ppf(0.975, 0.5, 3 * 1024 + 0.5)
    assert mean.bounds(0.025, found.df({0: 1.0})) == pytest.approx((0, upper))
    assert contrast.interval() == pytest.approx((-upper, upper))  # less than one latent of 1,024
    assert upper < 1 / 1024
    assert contrast.p_value() == 1


def test_the_choice_between_settings_widens_an_interval():
    values = [1.0, 2.0, 3.0]
    found = estimates([Sample(values, inflation=1.5), Sample(values, choice=0.5), Sample(values)])
    assert found.squared_errors == pytest.approx([0.5, 1 / 3 + 0.5, 1 / 3])
    assert [found.widened(arm) for arm in range(3)] == pytest.approx([1.5**0.5, 2.5**0.5, 1])
    assert found.df({2: 1.0}) == pytest.approx(4)
    assert found.df({1: 1.0}) == pytest.approx((1 / 3 + 0.5) ** 2 / ((1 / 3) ** 2 / 4 + 0.5**2 / 2))


def test_an_arm_lies_among_the_settings_that_it_may_be_at():
    values = [count / 1000 for count in (301, 305, 311)]
    found = estimates([Sample(values, choice=0.01, settings=[0.305, 0.405], total=1000)])
    mean = found.means[0]
    assert mean is not None
    low, high = mean.bounds(0.025, found.df({0: 1.0}))
    assert 0.2 < low < mean.mean < 0.405 < high < 0.5
