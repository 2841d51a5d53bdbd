"""Metrics against numbers worked out by hand."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation.quality import effective_number, measure
from harness.sae.model import CoderOutput, SAEOutput
from harness.sae.sparse import SparseCode
from harness.sae.support import Support
from harness.training.metrics import WINDOWS, HeldOut


class FixedSAE:
    """Reconstructs 0 always; latent 0 fires on every token, latent 1 where x[0] > 0, of 4 latents."""

    def __call__(self, x, target):
        first = torch.ones(len(x))
        second = (x[:, 0] > 0).float()
        indices = torch.tensor([[0, 1]]).expand(len(x), 2)
        values = torch.stack([first, second], 1).flatten()
        code = SparseCode(values, values, Support.of_rows(indices, 4), x.new_zeros(len(x), 4))
        return SAEOutput(torch.zeros_like(x), (CoderOutput(x, x, code, torch.zeros_like(x)),))


def evaluate(code: Callable[[torch.Tensor], SAEOutput], held_out: HeldOut, dead_window: int) -> SimpleNamespace:
    """What is measured of an SAE that makes `code` of activations."""
    sae = SimpleNamespace(code=code, config=SimpleNamespace(recipe=SimpleNamespace(dead_window=dead_window)))
    return SimpleNamespace(**measure(sae, held_out))


X = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]])  # mean 0


def test_against_hand_computed_numbers():
    quality = evaluate(FixedSAE(), HeldOut(X, scale=2.0), dead_window=4)
    assert quality.mse == pytest.approx((9 + 1 + 5 + 5) / 8 * 4)
    assert quality.fvu == pytest.approx(1.0)
    assert quality.nmse == pytest.approx(1.0)
    assert quality.l0 == pytest.approx((2 + 1 + 1 + 1) / 4)
    assert quality.alive == 2
    assert quality.dead_fraction == pytest.approx(0.5)
    entropy = -(4 / 5 * math.log(4 / 5) + 1 / 5 * math.log(1 / 5))
    assert quality.effective_latents == pytest.approx(math.exp(entropy))


def test_fvu_weighs_tokens_by_their_distance_and_nmse_does_not():
    shifted = X + torch.tensor([10.0, 0.0])  # the SAE still says 0: errors about 0, variance about the mean
    quality = evaluate(FixedSAE(), HeldOut(shifted, scale=1.0), dead_window=4)
    errors, squares = (169, 81, 85, 85), (9, 1, 5, 5)
    assert quality.fvu == pytest.approx(sum(errors) / sum(squares))
    assert quality.nmse == pytest.approx(sum(e / s for e, s in zip(errors, squares, strict=True)) / 4)


def test_death_is_counted_in_the_window_alone():
    late = torch.cat([torch.full((5000, 2), -1.0), torch.ones(10, 2)])
    held_out = HeldOut(late, scale=1.0)
    assert evaluate(FixedSAE(), held_out, dead_window=5000).alive == 1
    assert evaluate(FixedSAE(), held_out, dead_window=5001).alive == 2


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 60), st.integers(1, 7))
def test_every_window_is_counted_from_one_pass(fires, window, batch):
    """Against counting each by itself, for a latent that fires on some tokens only, in batches of any size."""
    x = torch.tensor([[1.0 if fire else -1.0, 0.0] for fire in fires])
    held_out = HeldOut(torch.cat([x, torch.ones(0, 2)]), 1.0, batch=batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WINDOWS, "dead_fraction_1_5m_tokens", 10)
        patch.setitem(WINDOWS, "dead_fraction_10m_tokens", 40)
        found = evaluate(FixedSAE(), held_out, window)

    def dead(tokens: int) -> float:
        return (2 + (not any(fires[:tokens]))) / 4  # of 4 latents one always fires and two never do

    assert found.dead_fraction == dead(window)
    assert found.dead_fraction_all_tokens == dead(len(fires))
    for name, tokens in (("dead_fraction_1_5m_tokens", 10), ("dead_fraction_10m_tokens", 40)):
        if tokens <= len(fires):
            assert getattr(found, name) == dead(tokens)
        else:  # longer than the data: absent, not 0
            assert not hasattr(found, name)


class HalvingSAE:
    """Two coders, each of which makes half of what it is given; one latent fires always, one never."""

    def __call__(self, x, target):
        always = SparseCode(
            torch.ones(len(x)), x[:, 0], Support.of_rows(torch.zeros(len(x), 1).long(), 1), x[:, :1]
        )
        never = SparseCode(torch.zeros(len(x)), x[:, 0], always.support, x[:, :1])
        parts = (CoderOutput(x, x, always, x / 2), CoderOutput(x / 2, x / 2, never, x / 4))
        return SAEOutput(x * 3 / 4, parts)


def test_each_layer_is_measured_by_what_is_left_behind_it():
    quality = evaluate(HalvingSAE(), HeldOut(X, scale=1.0), dead_window=4)
    assert quality.fvu == pytest.approx(1 / 16)
    assert quality.layers == [
        {"l0": 1.0, "dead_fraction": 0.0, "unexplained": pytest.approx(1 / 4)},
        {"l0": 0.0, "dead_fraction": 1.0, "unexplained": pytest.approx(1 / 16)},
    ]
    assert (quality.l0, quality.alive, quality.dead_fraction) == (1.0, 1, 0.5)


def test_effective_number():
    assert effective_number(torch.tensor([3.0, 3.0, 3.0, 0.0])) == pytest.approx(3)
    assert effective_number(torch.tensor([7.0, 0.0])) == pytest.approx(1)
    assert effective_number(torch.zeros(3)) == 0
