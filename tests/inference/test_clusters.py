"""Seeds as clusters of latents: intervals that cover, and the numbers that they need."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.inference.clusters import ClusterVariances, half_width, latents_needed

KNOWN = ClusterVariances(seed=1.0, latent=100.0, draw=40.0, repetition=8.0)


def test_the_width_by_hand():
    # t(0.975, 4) = 2.776; of a seed 1 + (100 + 40 / 2 + 8 / 4) / 61 = 3
    assert half_width(KNOWN, 3, 61, draws=2, repetitions=2) == pytest.approx(2.776445 * math.sqrt(2 * 3 / 3))


def test_intervals_of_that_width_cover_the_difference():
    random = np.random.default_rng(0)
    seeds, latents = 4, 30
    half = half_width(KNOWN, seeds, latents, draws=1, repetitions=1)
    error = math.sqrt(2 * (1 + 148 / latents) / seeds)
    differences = random.normal(0, error, 4000)
    # with known variances they would be narrower: Student's t of 6 degrees instead of the normal quantile
    assert np.mean(abs(differences) < half) > 0.97
    assert half / error == pytest.approx(2.4469, abs=1e-3)


@given(
    half=st.floats(0.5, 10),
    seed=st.floats(0, 20),
    latent=st.floats(1, 1000),
    seeds=st.integers(2, 30),
    draws=st.integers(1, 5),
)
def test_so_many_latents_are_enough_and_one_fewer_is_not(half, seed, latent, seeds, draws):
    known = ClusterVariances(seed, latent, draw=30.0)
    latents = latents_needed(half, known, seeds, draws, 1)
    if latents is None:
        assert half_width(known, seeds, 10**12, draws, 1) >= half * (1 - 1e-6)
        return
    assert half_width(known, seeds, latents, draws, 1) <= half * (1 + 1e-9)
    assert latents == 1 or half_width(known, seeds, latents - 1, draws, 1) > half * (1 - 1e-9)


def test_one_seed_shows_nothing():
    assert math.isinf(half_width(KNOWN, 1, 1000, 1, 1))
    assert latents_needed(2.0, KNOWN, 1, 1, 1) is None
