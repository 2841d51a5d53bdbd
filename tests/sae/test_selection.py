"""Selections against a sort of everything."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.sae import native
from harness.sae.topk import largest, masked, top_k

SEEDS = st.integers(0, 2**31)


@pytest.fixture(params=["kernels", "plain"])
def way(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr(native, "library", lambda: None)
    elif native.library() is None:
        pytest.skip("no compiler")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(0, 5), latents=st.integers(2, 700), k=st.integers(1, 12), seed=SEEDS, ties=st.booleans())
def test_top_k_takes_the_largest_entries(way, batch, latents, k, seed, ties):
    k = min(k, latents)
    x = torch.randn(batch, latents, generator=torch.Generator().manual_seed(seed))
    if ties:
        x = x.round()
    values, indices = top_k(x, k)
    assert indices.shape == (batch, k)
    assert torch.equal(x.gather(1, indices), values)
    assert torch.equal(x.gather(1, indices).sort(1).values, x.topk(k, dim=1).values.sort(1).values)
    assert all(len(set(row.tolist())) == k for row in indices)


def test_top_k_takes_what_is_not_a_number_first_and_infinity_next(way):
    x = torch.arange(600.0).repeat(3, 1)
    x[0, [7, 300]] = torch.nan
    x[1, 5], x[1, 9] = torch.inf, -torch.inf
    x[2] = torch.nan
    values, indices = top_k(x, 3)
    assert set(indices[0].tolist()) == {7, 300, 599}
    assert set(indices[1].tolist()) == {5, 598, 599}
    assert values[2].isnan().all()
    assert len(set(indices[2].tolist())) == 3


@given(tokens=st.integers(1, 9), latents=st.integers(1, 200), k=st.integers(1, 9), seed=SEEDS, ties=st.booleans())
def test_the_largest_of_a_batch_are_those_at_least_as_large_as_the_last_of_them(tokens, latents, k, seed, ties):
    x = torch.randn(tokens * latents, generator=torch.Generator().manual_seed(seed))
    if ties:
        x = x.round()
    count = min(k, latents) * tokens
    smallest = x.sort(descending=True).values[count - 1]
    values, places = largest(x, count)
    assert torch.equal(values, x[places])
    assert places.sort().values.tolist() == (x >= smallest).nonzero()[:, 0].tolist()


def test_what_is_not_a_number_is_among_the_largest():
    x = torch.arange(64.0)
    x[[3, 40]] = torch.nan
    assert set(largest(x, 3)[1].tolist()) == {3, 40, 63}
    assert len(largest(torch.full((64,), torch.nan), 3)[0]) == 64


def test_masked_are_the_entries_of_a_mask_and_where_they_are():
    mask = torch.rand(5, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    mask[2] = False
    dense = torch.arange(45.0).view(5, 9)
    entries, support = masked(dense, mask)
    assert torch.equal(entries, dense[mask])
    assert torch.equal(torch.stack([support.tokens, support.indices], 1), mask.nonzero())
