"""The shortlist's top-k is the exact one, whatever bfloat16 makes of the candidates."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.sae import shortlist
from harness.sae.shortlist import top_k_of_product
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from tests.sae.references import activations

TOKENS, WIDTH, LATENTS, K = 33, 24, 512, 4


def drawn(seed: int, spread: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows, weights and biases; with a small spread all pre-activations of a token are nearly equal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(TOKENS, WIDTH, generator=generator)
    weight = torch.randn(1, WIDTH, generator=generator) + spread * torch.randn(LATENTS, WIDTH, generator=generator)
    return x, weight, torch.randn(LATENTS, generator=generator) * spread


def assert_exact(x, weight, bias):
    values, indices = top_k_of_product(x, weight, bias, K)
    exact = x.double() @ weight.double().T + bias.double()
    noise = {"rtol": 1e-5, "atol": 1e-6 * float(exact.abs().max())}
    torch.testing.assert_close(values.double(), exact.gather(1, indices), **noise)
    assert all(len(set(row)) == K for row in indices.tolist())
    chosen = exact.gather(1, indices).sort(dim=1, descending=True).values
    torch.testing.assert_close(chosen, exact.topk(K, dim=1).values, **noise)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.1, 1e-2, 1e-3]))
def test_the_largest_are_found_even_where_bfloat16_cannot_tell_them_apart(seed, spread):
    assert_exact(*drawn(seed, spread))


def test_one_long_row_widens_the_bound_and_not_the_error():
    x, weight, bias = drawn(0, 1.0)
    weight[7] *= 1e4
    assert_exact(x, weight, bias)


@pytest.mark.parametrize("shift", [-3, -8, -100])
def test_where_few_or_none_are_positive(shift):
    """There the bits of bfloat16 are not ordered like its numbers."""
    x, weight, bias = drawn(2, 1.0)
    assert_exact(x, weight, bias + shift)


def test_rows_of_zeros_and_not_a_number_come_out_as_from_the_whole_product():
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
def test_a_cell_learns_the_same_with_a_shortlist(monkeypatch, changes):
    recipe = Recipe(latents=1024, k=4, batch=64, tokens=64 * 20, lr=1e-3, **changes)
    x = activations(64 * 20, WIDTH)
    cells = []
    for has_bfloat16 in (True, False):
        monkeypatch.setattr(shortlist, "has_bfloat16", lambda has=has_bfloat16: has)
        cells.append(Cell(recipe, WIDTH, torch.device("cpu")))
        for batch in x.split(64):
            cells[-1].step(batch)
        whole = [part.code.pre_activations is not None for part in cells[-1].code(x[:8]).parts]
        assert all(whole) if not has_bfloat16 or "penalty" in changes else not any(whole)
    shortlisted, plain = (dict(cell.sae.named_parameters()) for cell in cells)
    for name, parameter in shortlisted.items():
        torch.testing.assert_close(parameter, plain[name], rtol=1e-3, atol=1e-4, msg=name)
