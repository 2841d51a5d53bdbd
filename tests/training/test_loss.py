"""What a step's loss is made of, and what changes with the step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.sae.penalties import activity, aux_k_error, linear_spread, prefix_error
from harness.training.loss import active_at, loss_of, resamples_at
from tests.sae.references import activations, build
from tests.training.cells import recipe

TERMS = {
    "penalty": ({"penalty": 0.3, "penalty_on": "linear"}, lambda s, c, x, d: 0.3 * linear_spread(s, c)),
    "sparsity": ({"sparsity": 0.7, "sparsifier": "jumprelu"}, lambda s, c, x, d: 0.7 * activity(s, c)),
    "aux-k": ({"aux_k": 4, "aux_weight": 0.5}, lambda s, c, x, d: 0.5 * aux_k_error(d, 4)(s, c)),
    "prefixes": ({"prefixes": "0.1-0.5"}, lambda s, c, x, d: prefix_error(s, c, (0.1, 0.5))),
    "none": ({}, lambda s, c, x, d: 0.0),
}


@pytest.mark.parametrize("term", TERMS)
def test_a_loss_is_the_mean_squared_error_and_the_terms_with_a_weight(term):
    changes, expected = TERMS[term]
    sae, x = build("sparse 2", changes.get("sparsifier", "topk")).double(), activations().double()
    output, dead = sae(x), torch.arange(sae.latents) % 2 == 0
    error = (x - output.reconstruction).square().mean()
    ours, within, squares = loss_of(recipe(**changes), sae, output, x, dead)
    assert torch.allclose(within, error)
    assert torch.allclose(squares, x.square().sum())
    assert not within.requires_grad
    assert torch.allclose(ours, error + expected(sae, output, x, dead))
    assert (ours > error) == (term != "none")


def test_k_falls_linearly_and_stays():
    falling = recipe(k=4, k_start=14, k_decay=0.5)  # over 10 of 20 steps
    assert [active_at(step, falling) for step in range(12)] == [14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 4]
    assert {active_at(step, recipe(k=4)) for step in range(20)} == {4}


@given(st.integers(1, 31), st.integers(1, 31), st.floats(0.01, 1), st.integers(1, 40))
def test_k_goes_from_its_start_to_its_end_and_never_back(k, start, decay, steps):
    made = recipe(k=k, k_start=start, k_decay=decay, tokens=32 * steps)
    actives = [active_at(step, made) for step in range(steps + 1)]
    assert (actives[0], actives[-1]) == (start, k)
    assert actives == sorted(actives, reverse=start > k)


def test_resampling_leaves_the_second_half_to_learn():
    assert [step for step in range(21) if resamples_at(step, recipe(resample=3 * 32))] == [3, 6, 9]
    assert [step for step in range(21) if resamples_at(step, recipe(resample=5 * 32))] == [5, 10]
    assert [step for step in range(21) if resamples_at(step, recipe(resample=1))] == list(range(1, 11))
    assert not any(resamples_at(step, recipe()) for step in range(21))
