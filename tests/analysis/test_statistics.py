"""Intervals: hand-computed numbers and laws that hold for all numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.arms.statistics import mean_interval

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8)


def test_interval_of_one_two_three():
    interval = mean_interval([1.0, 2.0, 3.0])  # s = 1, t(2) = 4.302653, half = t / sqrt(3) = 2.484138
    assert interval.mean == 2.0
    assert interval.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert interval.high == pytest.approx(2 + 2.484138, abs=1e-6)
    assert interval.n == 3


def test_two_values_have_the_quantile_of_one_degree_of_freedom():
    interval = mean_interval([0.0, 2.0])  # s / sqrt(2) = 1, t(1) = 12.706205
    assert interval.high == pytest.approx(13.706205, abs=1e-6)


def test_one_value_has_no_interval_and_none_has_nothing():
    one = mean_interval([0.5])
    assert (one.mean, one.low, one.high, one.n) == (0.5, None, None, 1)
    assert mean_interval([]) is None


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused(lost: float):
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, lost])


@given(values)
def test_interval_contains_its_mean(numbers: list[float]):
    interval = mean_interval(numbers)
    assert interval.low <= interval.mean <= interval.high


@given(values, st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_interval_moves_and_stretches_with_its_values(numbers: list[float], shift: float, scale: float):
    before = mean_interval(numbers)
    after = mean_interval([scale * number + shift for number in numbers])
    for end in ("low", "mean", "high"):
        assert getattr(after, end) == pytest.approx(scale * getattr(before, end) + shift, rel=1e-6, abs=1e-6)


@given(values)
def test_interval_turns_round_with_its_values(numbers: list[float]):
    before, after = mean_interval(numbers), mean_interval([-number for number in numbers])
    assert after.low == pytest.approx(-before.high, abs=1e-9)
