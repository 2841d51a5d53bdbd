from typing import get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.muon import MOMENTUM, RMS, Muon, orthogonalise
from harness.sae.model import build_sae
from harness.study.recipe import Recipe
from harness.training.optimizers import OPTIMIZERS, build_optimizers, learning_rate, set_learning_rate


def small_sae():
    generator = torch.Generator().manual_seed(0)
    return build_sae(6, 20, 3, encoder=[2], decoder=[2], generator=generator)


@pytest.mark.parametrize("shape", [(8, 8), (5, 17), (30, 4), (1, 7)])
def test_orthogonalise_pulls_all_singular_values_to_one(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix)
    inner = u.T @ result @ v.T  # diagonal, near 1: same singular vectors, other singular values
    large = s > 0.1 * s.max()  # the quintic needs more iterations for the smallest ones
    assert torch.allclose(inner, torch.diag(inner.diagonal()), atol=1e-3)
    assert ((inner.diagonal()[large] > 0.6) & (inner.diagonal()[large] < 1.3)).all()


def test_muon_steps_along_the_orthogonalised_nesterov_momentum():
    weight = torch.nn.Parameter(torch.zeros(3, 5))
    optimizer = Muon([weight], lr=0.1)
    momentum = torch.zeros(3, 5)
    expected = torch.zeros(3, 5)
    for seed in range(3):
        grad = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed))
        weight.grad = grad.clone()
        optimizer.step()
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * grad
        blend = (1 - MOMENTUM) * grad + MOMENTUM * momentum
        expected -= 0.1 * RMS * 5**0.5 * orthogonalise(blend)
    assert torch.allclose(weight, expected, atol=1e-6)


def test_muon_refuses_anything_but_matrices():
    with pytest.raises(ValueError, match="matrices only"):
        Muon([torch.nn.Parameter(torch.zeros(2, 3, 4))], lr=1.0)


def test_the_registry_is_what_a_recipe_may_name():
    assert get_args(get_type_hints(Recipe)["optimizer"]) == tuple(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_moves_every_parameter_and_lowers_the_loss(name):
    sae = small_sae()
    optimizers = build_optimizers(name, sae, lr=1e-2)
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(2))
    before = [p.detach().clone() for p in sae.parameters()]
    losses = []
    for _ in range(50):
        loss = (sae(x).reconstruction - x).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]
    assert all(not torch.equal(p, old) for p, old in zip(sae.parameters(), before, strict=True))
    owned = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in sae.parameters())  # each exactly once
    set_learning_rate(optimizers, 0.25)
    assert {group["lr"] for optimizer in optimizers for group in optimizer.param_groups} == {0.25}


def test_muon_gives_matrices_to_muon_by_role():
    sae = small_sae()
    muon, rest = build_optimizers("muon", sae, lr=1e-3)
    assert isinstance(muon, Muon)
    assert {p.ndim for p in muon.param_groups[0]["params"]} == {2}
    assert {p.ndim for p in rest.param_groups[0]["params"]} == {1}


def test_the_learning_rate_is_a_trapezoid():
    rates = [learning_rate(step, 10, 1.0, warmup=0.2, decay=0.5) for step in range(10)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_is_never_zero_nor_above_its_peak(steps, warmup, decay):
    for step in range(steps):
        assert 0 < learning_rate(step, steps, 2.0, warmup, decay) <= 2.0
