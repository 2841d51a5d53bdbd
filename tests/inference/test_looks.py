"""Levels of planned looks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.inference.looks import level


def test_one_look_has_the_usual_level():
    assert level([3]) == 0.05


def test_looks_keep_five_percent_in_all():
    looks, draws = [3, 5, 8], np.random.default_rng(1).standard_normal((40_000, 8))
    rejected = np.zeros(len(draws), bool)
    for n in looks:
        rejected |= stats.ttest_1samp(draws[:, :n], 0, axis=1).pvalue <= level(looks)
    assert rejected.mean() == pytest.approx(0.05, abs=0.003)  # three standard errors of a simulation are 0.0033
    assert level(looks) == pytest.approx(0.0200, abs=0.0002)


def test_many_seeds_at_equal_steps_have_the_constant_of_pocock():
    # Pocock 1977, table 1: three looks at z = 2.289, a level of 0.0221
    assert level([500, 1000, 1500]) == pytest.approx(0.0221, abs=0.0004)


def test_the_level_is_between_bonferroni_and_a_single_test():
    for looks in ([2, 3], [3, 6, 9], [2, 3, 4, 5, 6, 7]):
        assert 0.05 / len(looks) < level(looks) < 0.05


@pytest.mark.parametrize("looks", [[], [1, 2], [3, 3], [5, 3]])
def test_looks_that_do_not_increase_are_refused(looks: list[int]):
    with pytest.raises(ValueError, match="increasing numbers of seeds"):
        level(looks)
