"""What latents fire on, against dense codes of the same tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness import TrainedSAE
from harness.interpretability import firings as module
from harness.interpretability.firings import firings_of, sampled_latents
from harness.training.cell import Cell
from harness.training.centring import Centring
from harness.training.sae_files import SAEConfig
from tests.interpretability.planted import firings_from, text_from
from tests.training.cells import recipe

WIDTH, TOKENS = 8, 700
KINDS: dict[str, dict[str, Any]] = {
    "top-k": {},
    "deep": {"layers": "dense 2-2"},
    "stacked": {"layers": "sparse 3"},
    "batch top-k": {"sparsifier": "batchtopk"},
    "relu": {"sparsifier": "relu", "layers": "sparse 2"},
    "unit norm": {"inputs": "unit_norm", "sparsifier": "jumprelu"},
}


def sae_of(**changes: Any) -> TrainedSAE:
    """An SAE with its initial weights, for activations far from zero."""
    centring = Centring(torch.linspace(-40, 60, WIDTH), torch.tensor(3.7), torch.ones(WIDTH))
    made = Cell(recipe(**changes), WIDTH, torch.device("cpu"), centring)
    return TrainedSAE.of(made, SAEConfig(made.recipe, centring, centring))


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("at_once", [2**25, 32 * 100], ids=["in few batches", "in batches of 100 tokens"])
def test_entries_are_those_of_the_dense_codes(
    changes: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CODES_AT_ONCE", at_once)
    sae = sae_of(**changes)
    noise = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))
    text = text_from(np.zeros((TOKENS // 7, 7), np.int64), sae.input.restore(noise).numpy())
    firings = firings_of(sae, text)
    dense = sae.encode(text.x).numpy()
    latents, tokens = np.nonzero(dense.T)
    assert len(tokens) > 1000
    assert np.array_equal(firings.latents, latents)
    assert np.array_equal(firings.tokens, tokens)
    assert firings.values == pytest.approx(dense[tokens, latents], rel=1e-4, abs=1e-6)
    assert (firings.total, sum(firings.layers)) == dense.shape
    assert np.array_equal(firings.counts, (dense > 0).sum(0))
    assert np.array_equal(firings.rates, (dense > 0).mean(0))
    for latent in range(32):
        where, values = firings.of(latent)
        assert np.array_equal(where, np.flatnonzero(dense[:, latent]))
        assert np.array_equal(values, firings.values[firings.latents == latent])
    edges = np.cumsum(firings.layers)
    assert [firings.layer(latent) for latent in range(32)] == [
        int((edges <= latent).sum()) for latent in range(32)
    ]


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 12), st.floats(0, 0.6))
def test_neighbours_are_those_of_the_definition(seed: int, tokens: int, latents: int, share: float) -> None:
    random = np.random.default_rng(seed)
    masks = random.random((latents, tokens)) < share * random.random((latents, 1))
    firings = firings_from(list(masks), random)
    for latent, mine in enumerate(masks):
        both, either = (mine & masks).sum(1), (mine | masks).sum(1)
        alike = {n: both[n] / either[n] for n in range(latents) if n != latent and both[n]}
        ordered = sorted(alike, key=lambda other: (-alike[other], other))
        for most in (1, 3, latents):
            found = firings.neighbours(latent, most)
            assert found.latents.tolist() == ordered[:most]
            assert found.alike.tolist() == pytest.approx([alike[other] for other in ordered[:most]])


def test_a_sample_of_latents_takes_no_heed_of_what_they_do() -> None:
    """As many of either half in the mean, whatever they fire on; and the same ones for the same seed."""
    samples = [sampled_latents(40, 10, seed) for seed in range(400)]
    for sample in samples:
        assert len(np.unique(sample)) == 10
        assert np.array_equal(sample, np.sort(sample))
    assert np.mean([(sample < 20).mean() for sample in samples]) == pytest.approx(0.5, abs=0.03)
    assert np.array_equal(sampled_latents(40, 10, 7), samples[7])
    assert not np.array_equal(samples[0], samples[1])
    assert np.array_equal(sampled_latents(5, 10, 0), np.arange(5))
