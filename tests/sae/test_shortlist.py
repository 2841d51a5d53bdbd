"""The shortlist's top-k is the exact one, whatever a lower precision makes of the candidates."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.sae import model, native, shortlist
from harness.sae.shortlist import top_k_of_product
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from tests.sae.references import activations

TOKENS, WIDTH, LATENTS, K = 33, 24, 512, 4


@pytest.fixture(params=["plain", "bfloat16", "int16"])
def way(request, monkeypatch):
    """How candidates are found: in bfloat16 by plain PyTorch, by kernels, or in int16, which kernels only do."""
    name = request.param
    if name != "plain" and native.library() is None:
        pytest.skip("no compiler")
    if name == "int16" and not native.has_int16():
        pytest.skip("no product in int16 for this processor")
    monkeypatch.setattr(shortlist, "has_bfloat16", lambda: name != "int16")
    if name == "plain":
        monkeypatch.setattr(native, "library", lambda: None)
    if name == "bfloat16":
        monkeypatch.setattr(native, "has_int16", lambda: False)
    return name


def drawn(seed: int, spread: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, weights and biases; with a small spread all pre-activations of a token are nearly equal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(TOKENS, WIDTH, generator=generator)
    weight = torch.randn(1, WIDTH, generator=generator) + spread * torch.randn(LATENTS, WIDTH, generator=generator)
    return x, weight, torch.randn(LATENTS, generator=generator) * spread


def assert_exact(x, weight, bias, k=K):
    values, indices = top_k_of_product(x, weight, bias, k)
    exact = x.double() @ weight.double().T + bias.double()
    noise = {"rtol": 1e-5, "atol": 1e-6 * float(exact.abs().max()) if len(x) else 0.0}
    torch.testing.assert_close(values.double(), exact.gather(1, indices), **noise)
    assert all(len(set(row)) == k for row in indices.tolist())
    chosen = exact.gather(1, indices).sort(dim=1, descending=True).values
    torch.testing.assert_close(chosen, exact.topk(k, dim=1).values, **noise)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.1, 1e-2, 1e-3]))
def test_the_largest_are_found_even_where_low_precision_cannot_tell_them_apart(way, seed, spread):
    assert_exact(*drawn(seed, spread))


def test_one_long_row_widens_the_bound_and_not_the_error(way):
    x, weight, bias = drawn(0, 1.0)
    weight[7] *= 1e4
    assert_exact(x, weight, bias)


@pytest.mark.parametrize("shift", [-3, -8, -100])
def test_where_few_or_none_are_positive(way, shift):
    """There the bits of bfloat16 are not ordered like its numbers."""
    x, weight, bias = drawn(2, 1.0)
    assert_exact(x, weight, bias + shift)


@pytest.mark.parametrize(("tokens", "width", "latents", "k"), [(0, 3, 512, 4), (1, 1, 40, 10), (200, 33, 1000, 3)])
def test_odd_sizes(way, tokens, width, latents, k):
    generator = torch.Generator().manual_seed(3)
    x, weight = torch.randn(tokens, width, generator=generator), torch.randn(latents, width, generator=generator)
    assert_exact(x, weight, torch.randn(latents, generator=generator), k)


def test_a_weight_that_is_not_a_number_is_not_passed_over(way):
    x, weight, bias = drawn(1, 1.0)
    weight[5, 3] = torch.nan
    values, indices = top_k_of_product(x, weight, bias, K)
    assert values.isnan().any(1).all()
    assert (indices == 5).any(1).all()


def test_rows_of_zeros_and_not_a_number_come_out_as_from_the_whole_product(way):
    x, weight, bias = drawn(1, 1.0)
    x[0], x[1] = 0, torch.nan
    values, _ = top_k_of_product(x, weight, bias, K)
    torch.testing.assert_close(values[0].sort().values, bias.topk(K).values.sort().values)
    assert values[1].isnan().all()
    assert not values[2:].isnan().any()


@pytest.mark.parametrize(
    "changes",
    [{}, {"aux_k": 8, "dead_window": 64}, {"layers": "sparse 2"}, {"layers": "dense 2-2"}, {"penalty": 0.1}],
    ids=str,
)
def test_a_cell_learns_the_same_with_a_shortlist(way, monkeypatch, changes):
    recipe = Recipe(latents=1024, k=4, batch=64, tokens=64 * 20, lr=1e-3, **changes)
    x = activations(64 * 20, WIDTH)
    cells = []
    for allowed in (True, False):
        if not allowed:
            monkeypatch.setattr(model, "pays", lambda *_: False)
        cells.append(Cell(recipe, WIDTH, torch.device("cpu")))
        for batch in x.split(64):
            cells[-1].step(batch)
        whole = [part.code.pre_activations is not None for part in cells[-1].code(x[:8]).coders]
        assert all(whole) if not allowed or "penalty" in changes else not any(whole)
    shortlisted, plain = (dict(cell.sae.named_parameters()) for cell in cells)
    for name, parameter in shortlisted.items():
        torch.testing.assert_close(parameter, plain[name], rtol=1e-3, atol=1e-4, msg=name)
