"""Histograms of activations, against counting one by one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from harness.interpretability.firings import Firings
from harness.interpretability.histogram import BINS, histogram


def test_every_firing_is_in_its_bin():
    random = np.random.default_rng(0)
    latents = np.sort(random.integers(0, 3, 500))  # a fourth one is dead
    values = random.gamma(2, 1, 500).astype(np.float32)
    firings = Firings(np.arange(500), latents, values, 500, (4,))
    cell = SimpleNamespace(sample=np.array([0, 2, 3]), firings=firings)
    found = histogram(cell)["histogram"]
    for counts, latent in zip(found[:2], (0, 2), strict=True):
        own = values[latents == latent]
        bins = np.minimum((own / own.max() * BINS).astype(int), BINS - 1)
        assert np.abs(counts - np.bincount(bins, minlength=BINS)).sum() <= 2  # a value on an edge, by rounding
        assert counts.sum() == len(own)
    assert not found[2].any()
