"""A batch in micro-batches: the gradients, what is counted and what is measured are those of the whole."""

import pytest
import torch

from harness.study.catalogue import PENALTIES, SPARSIFIERS
from harness.training.backward import Indivisible, backward
from harness.training.checkpoint import Checkpoints
from tests.sae.references import LAYERS, activations, build
from tests.training.cells import BATCH, STEPS, cell, recipe, run

DIVISIBLE = [name for name, spec in SPARSIFIERS.items() if not spec.load().WHOLE_BATCH]
EVERY_TERM = {"aux_k": 3, "aux_weight": 0.5, "prefixes": "0.25-0.5", "penalty": 0.3}


@pytest.mark.parametrize("micro_batches", [2, 3, 40])
@pytest.mark.parametrize("penalty_on", PENALTIES)
@pytest.mark.parametrize("sparsifier", DIVISIBLE)
@pytest.mark.parametrize("layers", LAYERS)
def test_gradients_are_those_of_the_whole_batch(layers, sparsifier, penalty_on, micro_batches):
    sae, x = build(layers, sparsifier).double(), activations(40).double()
    made = recipe(sparsifier=sparsifier, penalty_on=penalty_on, **EVERY_TERM)
    dead = torch.arange(sae.latents) % 3 == 0

    def seen_and_gradients(parts: int):
        sae.zero_grad()
        seen = backward(made, sae, x, dead, micro_batches=parts, keep_sources=True)
        return seen, [parameter.grad.clone() for parameter in sae.parameters()]

    whole, expected = seen_and_gradients(1)
    seen, gradients = seen_and_gradients(micro_batches)
    assert torch.allclose(seen.error, whole.error)
    assert torch.equal(seen.firings, whole.firings)
    for source, one in zip(seen.sources, whole.sources, strict=True):
        assert torch.allclose(source.inputs, one.inputs)
        assert torch.allclose(source.loss, one.loss)
    assert any(gradient.any() for gradient in expected)
    for gradient, one in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, one)


@pytest.mark.parametrize("sparsifier", DIVISIBLE)
def test_a_cell_in_micro_batches_comes_to_the_same(tmp_path, sparsifier):
    changes = {"layers": "sparse 2", "sparsifier": sparsifier, "resample": 3 * BATCH, "penalty": 0.1, "aux_k": 3}
    whole, parts = cell(**changes), cell(micro_batches=4, **changes)
    assert parts.evaluation_batch < whole.evaluation_batch
    expected, curve = run(whole, Checkpoints(tmp_path / "whole"))
    quality, points = run(parts, Checkpoints(tmp_path / "parts"))
    assert parts.step_index == STEPS
    for point, one in zip(points, curve, strict=True):
        assert point == pytest.approx(one, rel=1e-3)
    assert quality.fvu == pytest.approx(expected.fvu, rel=1e-4)


def test_what_selects_from_a_whole_batch_is_not_divided():
    with pytest.raises(Indivisible, match="batchtopk"):
        cell(sparsifier="batchtopk", micro_batches=2)
