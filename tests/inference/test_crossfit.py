"""What the choice between settings adds to an arm's error, against a simulation of whole arms."""

from __future__ import annotations

import numpy as np
import pytest

from harness.inference.crossfit import cross_fitted, on_other_seeds
from harness.study.tuned_choice import choose


def test_a_setting_that_is_far_better_leaves_nothing_to_choose():
    error = cross_fitted([0.0, 50.0], 3)
    assert error.inflation == pytest.approx(1.0, abs=0.1)
    assert error.variance([1.0, 7.0]) == 0
    assert on_other_seeds([0.0, 50.0], 2).variance([1.0, 7.0]) == 0


def test_cross_fitted_seeds_of_equal_settings_are_dependent():
    rng, means = np.random.default_rng(1), []
    for _ in range(3000):
        scores = rng.standard_normal((3, 3))
        rows = {name: dict(enumerate(map(float, row))) for name, row in enumerate(scores)}
        by_seed = choose(rows, range(3)).by_seed
        means.append(np.mean([scores[by_seed[seed], seed] for seed in range(3)]))
    assert cross_fitted([0.0, 0.0, 0.0], 3).inflation == pytest.approx(3 * np.var(means), rel=0.1)


def test_one_tuning_seed_of_two_equal_settings_is_a_coin():
    error = on_other_seeds([0.0, 0.0], 1)
    # the arm has one setting's figure or the other's: variance (difference / 2)²
    assert error.variance([1.0, 3.0]) == pytest.approx(1.0, rel=0.05)
    assert error.inflation == 1


def test_a_figure_that_is_equal_at_all_settings_does_not_depend_on_the_choice():
    assert cross_fitted([0.0, 0.3, 0.6], 5).variance([2.0, 2.0, 2.0]) == 0


def test_it_is_the_same_each_time():
    assert cross_fitted([0.0, 1.0], 4).inflation == cross_fitted([0.0, 1.0], 4).inflation
