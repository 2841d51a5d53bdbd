"""The sparse arithmetic against plain dense PyTorch."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from harness.sae.sparse import (
    SparseCode,
    active_entries,
    decode,
    normalise_rows,
    positive_means,
    pre_activations,
    project_rows,
)
from harness.sae.support import Support
from harness.sae.topk import masked, top_k

SEEDS = st.integers(0, 2**31)


def ragged(batch: int, latents: int, share: float, seed: int = 0) -> tuple[torch.Tensor, Support]:
    """A mask of which about `share` is true, with an empty first row, and its support."""
    mask = torch.rand(batch, latents, generator=torch.Generator().manual_seed(seed)) < share
    mask[:1] = False
    return mask, masked(mask, mask)[1]


# float64 takes the plain-PyTorch versions, float32 the compiled kernels, which sum 64 columns at a time.
@given(
    st.integers(0, 6),
    st.integers(1, 30),
    st.floats(0, 1),
    SEEDS,
    st.sampled_from([3, 64, 70]),
    st.sampled_from([torch.float64, torch.float32]),
)
def test_a_support_knows_its_entries_by_token_and_by_latent(batch, latents, share, seed, width, dtype):
    near = partial(torch.allclose, atol=1e-8 if dtype == torch.float64 else 1e-4)
    mask, support = ragged(batch, latents, share, seed)
    entries = torch.arange(batch * latents, dtype=dtype).view(batch, latents)
    places = mask.nonzero()
    assert torch.equal(support.tokens, places[:, 0])
    assert torch.equal(support.indices, places[:, 1])
    values = entries[mask].sin()
    dense = torch.zeros_like(entries).masked_scatter(mask, values)
    weight, rows = torch.randn(latents, width, dtype=dtype), torch.randn(batch, width, dtype=dtype)
    assert near(support.weighted_rows(values, weight), dense @ weight)
    assert near(support.weighted_tokens(values, rows), dense.T @ rows)
    assert near(support.totals(values), dense.sum(0))
    assert near(support.inner_products(rows, weight), (rows @ weight.T)[mask])
    half = support.where(support.indices % 2 == 0)
    assert torch.equal(entries[half.tokens, half.indices], entries[mask & (torch.arange(latents) % 2 == 0)])


def test_a_support_of_rows_is_that_of_their_mask():
    rows = torch.tensor([[2, 0], [1, 2]])
    support = Support.of_rows(rows, 3)
    assert support.tokens.tolist() == [0, 0, 1, 1]
    assert support.weighted_rows(torch.ones(4), torch.tensor([[1.0], [2.0], [4.0]])).tolist() == [[5.0], [6.0]]


# float64 takes the plain-PyTorch versions, float32 the compiled kernels.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "width"), [(7, 5), (3, 100), (40, 64), (0, 4)])
def test_rows_are_normalised_and_gradients_projected(rows, width, dtype):
    weight, gradient = torch.randn(2, rows, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = weight / weight.norm(dim=1, keepdim=True)
    normalise_rows(weight)
    torch.testing.assert_close(weight, wanted)
    before = gradient.clone()
    project_rows(gradient, weight)
    torch.testing.assert_close(gradient, before - (before * weight).sum(1, keepdim=True) * weight)


def test_a_row_of_zeros_stays_one():
    for dtype in (torch.float32, torch.float64):
        weight = torch.zeros(2, 3, dtype=dtype)
        normalise_rows(weight)
        assert not weight.any()


@pytest.mark.parametrize(("batch", "latents", "share"), [(1, 2, 1.0), (7, 33, 0.2), (16, 128, 0.02), (4, 9, 0.0)])
def test_entries_reconstructions_and_gradients_are_those_of_the_dense_layer(batch, latents, share):
    mask, support = ragged(batch, latents, share)
    generator = torch.Generator().manual_seed(0)
    x, encoder, bias, decoder, shift = arguments = [
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((batch, 6), (latents, 6), (latents,), (latents, 9), (9,))
    ]
    entries = active_entries(x, encoder, bias, pre_activations(x, encoder, bias)[mask], support)
    sparse = decode(entries.relu(), support, decoder, shift)
    dense = ((x @ encoder.T + bias).relu() * mask) @ decoder + shift
    assert torch.allclose(sparse, dense)
    ours = torch.autograd.grad((sparse - 1).square().sum(), arguments)
    theirs = torch.autograd.grad((dense - 1).square().sum(), arguments)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other)


def test_gradients_agree_with_finite_differences():
    mask, support = ragged(4, 12, 0.3)
    generator = torch.Generator().manual_seed(1)
    shapes = ((4, 5), (12, 5), (12,), (12, 3), (3,))
    arguments = [torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]

    def layer(x, encoder, bias, decoder, shift):
        entries = active_entries(x, encoder, bias, pre_activations(x, encoder, bias)[mask], support)
        return decode(entries, support, decoder, shift)

    def means(x, encoder, bias):
        return positive_means(x, encoder, bias, pre_activations(x, encoder, bias))

    assert len(support.indices) > 4
    assert gradcheck(layer, arguments, eps=1e-7)
    assert gradcheck(means, arguments[:3], eps=1e-7)


def test_a_latent_that_is_selected_below_zero_has_not_fired():
    pre = torch.tensor([[2.0, -1.0, -3.0]])
    values, indices = top_k(pre, 2)
    active, support = values.flatten(), Support.of_rows(indices, 3)
    code = SparseCode(active.relu(), active, support, pre)
    assert code.dense().tolist() == [[2.0, 0.0, 0.0]]
    assert code.fired().tolist() == [1.0, 0.0, 0.0]
