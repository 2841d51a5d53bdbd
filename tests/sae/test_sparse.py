"""The sparse arithmetic against plain dense PyTorch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.sae.sparse import SparseCode, decode, encode_top_k, top_k


def dense_code(x, weight, bias, k):
    """top-k of relu(x W^T + b) as a dense [B, N] matrix, by autograd alone."""
    pre = x @ weight.T + bias
    kept = torch.zeros_like(pre).scatter(1, pre.topk(k, dim=1).indices, 1.0)
    return pre.relu() * kept


def to_dense(code: SparseCode, latents: int) -> torch.Tensor:
    zeros = code.values.new_zeros(len(code.values), latents)
    return zeros.scatter(1, code.support.indices, code.values)


@given(
    batch=st.integers(0, 5),
    latents=st.integers(2, 700),
    k=st.integers(1, 12),
    seed=st.integers(0, 2**31),
    ties=st.booleans(),
)
def test_top_k_takes_the_largest_entries(batch, latents, k, seed, ties):
    k = min(k, latents)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, latents, generator=generator)
    if ties:
        x = x.round()
    values, indices = top_k(x, k)
    assert values.shape == indices.shape == (batch, k)
    assert torch.equal(x.gather(1, indices), values)
    assert torch.equal(values.sort(1).values, x.topk(k, dim=1).values.sort(1).values)
    assert all(len(set(row.tolist())) == k for row in indices)


@pytest.mark.parametrize(("batch", "latents", "k"), [(1, 2, 1), (7, 33, 5), (16, 512, 4), (3, 40, 40 - 1)])
def test_codes_reconstructions_and_gradients_are_those_of_the_dense_layer(batch, latents, k):
    generator = torch.Generator().manual_seed(0)
    x, encoder, bias, decoder = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((batch, 6), (latents, 6), (latents,), (latents, 9))
    )
    target = torch.randn(batch, 9, generator=generator, dtype=torch.float64)

    code = encode_top_k(x, encoder, bias, k)
    sparse = decode(code, decoder)
    dense = dense_code(x, encoder, bias, k) @ decoder
    assert torch.allclose(to_dense(code, latents), dense_code(x, encoder, bias, k))
    assert torch.allclose(sparse, dense)

    parameters = (x, encoder, bias, decoder)
    ours = torch.autograd.grad((sparse - target).square().sum(), parameters)
    theirs = torch.autograd.grad((dense - target).square().sum(), parameters)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other)


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(1)
    shapes = ((4, 5), (12, 5), (12,), (12, 3))
    arguments = [torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]

    def layer(x, encoder, bias, decoder):
        return decode(encode_top_k(x, encoder, bias, 3), decoder)

    assert torch.autograd.gradcheck(layer, arguments, eps=1e-7)


def test_a_latent_that_is_selected_below_zero_has_not_fired():
    x = torch.tensor([[1.0]])
    code = encode_top_k(x, torch.tensor([[2.0], [-1.0], [-3.0]]), torch.zeros(3), k=2)
    assert to_dense(code, 3).tolist() == [[2.0, 0.0, 0.0]]
    assert code.fired().tolist() == [1.0, 0.0, 0.0]
