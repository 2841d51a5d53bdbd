"""bfloat16 is for dense products: what is selected is computed again, and what is learnt is kept, in float32."""

import pytest
import torch

from harness.training.checkpoint import Checkpoints
from tests.training.cells import DATA, cell, run


def coded(one, x):
    with torch.autocast("cpu", torch.bfloat16):
        return one.sae(x)


def test_the_selection_is_by_bfloat16_and_the_values_are_float32():
    one = cell()
    exact, rough = one.sae(DATA).parts[0].code, coded(one, DATA).parts[0].code
    assert rough.pre_activations.dtype == torch.bfloat16
    assert rough.values.dtype == torch.float32
    same = (exact.dense() > 0) & (rough.dense() > 0)
    assert same.sum() > 0.95 * (exact.values > 0).sum()
    assert torch.allclose(exact.dense()[same], rough.dense()[same], atol=1e-6)


@pytest.mark.parametrize("layers", ["none", "sparse 2", "dense 2-2"])
def test_gradients_are_float32_and_near_those_of_float32(layers):
    one, other = cell(layers=layers), cell(layers=layers)
    (one.sae(DATA).reconstruction - DATA).square().mean().backward()
    (coded(other, DATA).reconstruction - DATA).square().mean().backward()
    for exact, rough in zip(one.sae.parameters(), other.sae.parameters(), strict=True):
        assert rough.grad.dtype == torch.float32
        assert not torch.equal(exact.grad, rough.grad)
        assert torch.linalg.vector_norm(exact.grad - rough.grad) < 0.1 * torch.linalg.vector_norm(exact.grad)


@pytest.mark.parametrize("changes", [{}, {"layers": "dense 2-2"}, {"penalty": 1.0, "aux_k": 4}])
def test_what_is_trained_in_bfloat16_reconstructs_as_well(tmp_path, changes):
    exact, _ = run(cell(**changes), Checkpoints(tmp_path / "exact"))
    rough, _ = run(cell(**changes, precision="bfloat16"), Checkpoints(tmp_path / "rough"))
    assert rough.fvu == pytest.approx(exact.fvu, rel=0.02)
    assert rough.fvu != exact.fvu
