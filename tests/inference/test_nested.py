"""Variance components of nested groups: by hand, right on average, and against the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.inference.bootstrap import Clusters
from harness.inference.nested import nested

TRUE = (4.0, 9.0, 1.0)  # variances of seeds, latents, draws


def simulated(
    random: np.random.Generator, arms: int, seeds: int, latents: int, draws: int
) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    """Values with the groups of arms, seeds, latents and draws; every third seed has half of the latents."""
    rows, values = [], []
    for arm in range(arms):
        for seed in range(seeds):
            of_seed = random.normal(0, TRUE[0] ** 0.5)
            for latent in range(latents // (2 if seed % 3 == 2 else 1)):
                of_latent = random.normal(0, TRUE[1] ** 0.5)
                for draw in range(draws):
                    place = arm, (arm, seed), (arm, seed, latent), (arm, seed, latent, draw)
                    rows.append(place)
                    values.append(10 * arm + of_seed + of_latent + random.normal(0, TRUE[2] ** 0.5))
    groups = []
    for level in range(4):
        known: dict[object, int] = {}
        groups.append(np.array([known.setdefault(row[level], len(known)) for row in rows]))
    return np.array(values), groups


def test_a_balanced_design_by_hand():
    # one arm, two seeds of two latents of two draws
    values = np.array([0.0, 2.0, 4.0, 6.0, 10.0, 12.0, 18.0, 20.0])
    groups = [np.zeros(8, int), np.arange(8) // 4, np.arange(8) // 2, np.arange(8)]
    # mean squares: seeds 8 * 6^2 / 1 = 288, latents (4 * 2^2 + 4 * 4^2) / 2 = 40, draws 8 * 1^2 / 4 = 2
    found = nested(values, groups)
    assert [one.variance for one in found] == pytest.approx([(288 - 40) / 4, (40 - 2) / 2, 2])
    assert [one.df for one in found] == [1, 2, 4]


def test_a_level_without_degrees_of_freedom_is_part_of_the_one_above():
    values = np.array([0.0, 2.0, 4.0, 6.0, 10.0, 12.0, 18.0, 20.0])
    groups = [np.zeros(8, int), np.arange(8) // 4, np.arange(8), np.arange(8), np.arange(8)]
    seeds, latents, draws, repetitions = nested(values, groups)
    assert (draws.df, repetitions.df) == (0, 0)
    assert (draws.variance, repetitions.variance) == (0, 0)
    # mean squares: seeds 288, latents (4 * 5 + 4 * 17) / 6
    assert [seeds.variance, latents.variance] == pytest.approx([(288 - 88 / 6) / 4, 88 / 6])


def test_components_of_unequal_groups_are_right_on_average():
    random = np.random.default_rng(0)
    found = [[one.variance for one in nested(*simulated(random, 3, 6, 20, 2))] for _ in range(60)]
    assert np.mean(found, axis=0) == pytest.approx(TRUE, rel=0.12)


def test_standard_errors_from_components_are_those_of_the_bootstrap():
    """Over seeds and latents: with components known well, in arms of many seeds."""
    arms, seeds, latents, draws = 2, 60, 20, 2
    values, groups = simulated(np.random.default_rng(1), arms, seeds, latents, draws)
    seed, latent, draw = (one.variance for one in nested(values, groups))
    of_latents = np.bincount(groups[2], values) / np.bincount(groups[2])
    first = np.unique(groups[2], return_index=True)[1]
    clusters = Clusters(of_latents, groups[0][first], groups[1][first])
    per_seed = np.mean([1 / size for size in (latents, latents, latents // 2)])
    within = (latent + draw / draws) * per_seed / seeds
    assert clusters.over_members() ** 2 == pytest.approx(within, rel=0.15)
    assert clusters.over_clusters() ** 2 == pytest.approx(seed / seeds + within, rel=0.25)


def test_one_seed_has_no_standard_error_over_seeds():
    clusters = Clusters(np.array([1.0, 2.0]), np.zeros(2, int), np.zeros(2, int))
    assert clusters.over_clusters() is None
    assert clusters.over_members() == pytest.approx((0.25 / 2) ** 0.5, rel=0.1)


def test_the_bootstrap_over_few_clusters_is_the_standard_error_of_their_mean():
    values = np.array([1.0, 2.0, 6.0])
    clusters = Clusters(values, np.zeros(3, int), np.arange(3))
    assert clusters.over_clusters() == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), rel=0.1)
