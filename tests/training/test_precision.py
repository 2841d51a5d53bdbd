"""bfloat16 is for dense products: what is selected is computed again, and what is learnt is kept, in float32.
tf32 is for the products of a step on a GPU, and for nothing else."""

import pytest
import torch

from harness.training import backward
from harness.training.checkpoint import Checkpoints
from harness.training.precision import float32_products
from tests.training.cells import BATCH, DATA, cell, run

CPU, GPU = torch.device("cpu"), torch.device("cuda")  # its settings are there even where it is not


def output(one, x):
    with torch.autocast("cpu", torch.bfloat16):
        return one.sae(x)


def test_the_selection_is_by_bfloat16_and_the_values_are_float32():
    one = cell()
    exact, rough = one.sae(DATA).coders[0].code, output(one, DATA).coders[0].code
    assert rough.pre_activations.dtype == torch.bfloat16
    assert rough.values.dtype == torch.float32
    same = (exact.dense() > 0) & (rough.dense() > 0)
    assert same.sum() > 0.95 * (exact.values > 0).sum()
    assert torch.allclose(exact.dense()[same], rough.dense()[same], atol=1e-6)


@pytest.mark.parametrize("layers", ["none", "sparse 2", "dense 2-2"])
def test_gradients_are_float32_and_near_those_of_float32(layers):
    one, other = cell(layers=layers), cell(layers=layers)
    (one.sae(DATA).reconstruction - DATA).square().mean().backward()
    (output(other, DATA).reconstruction - DATA).square().mean().backward()
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


@pytest.mark.parametrize(
    "changes", [{}, {"layers": "dense 2-2", "penalty": 1.0, "aux_k": 4}, {"micro_batches": 2}]
)
def test_tf32_without_a_gpu_has_the_bits_of_float32(tmp_path, changes):
    exact, same = cell(**changes), cell(**changes, precision="tf32")
    expected, curve = run(exact, Checkpoints(tmp_path / "exact"))
    assert run(same, Checkpoints(tmp_path / "same")) == (expected, curve)
    ours, theirs = exact.state(), same.state()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def setting() -> tuple[str, bool, str]:
    """How a GPU would multiply, by torch's new and old names for it."""
    matmul = torch.backends.cuda.matmul
    return matmul.fp32_precision, matmul.allow_tf32, torch.get_float32_matmul_precision()


@pytest.fixture(params=["never set", "highest", "high"])
def set_before(request):
    """What the process has asked for in torch's old words; put back behind the test."""
    fresh = torch.backends.cuda.matmul.fp32_precision
    if request.param != "never set":
        torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.fp32_precision = fresh


@pytest.mark.usefixtures("set_before")
def test_tf32_is_set_within_and_what_was_before_is_set_behind():
    before = setting()
    with float32_products("tf32", GPU):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert setting() == before
    for precision, device in (("tf32", CPU), ("float32", GPU), ("bfloat16", GPU)):
        with float32_products(precision, device):
            assert setting() == before


def on_a_gpu(monkeypatch, at_loss):
    """Let steps set what they would set on a GPU, and call `at_loss` in the middle of them."""
    loss_of = backward.loss_of
    monkeypatch.setattr(backward, "float32_products", lambda precision, _: float32_products(precision, GPU))
    monkeypatch.setattr(backward, "loss_of", lambda *given: at_loss() or loss_of(*given))


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_both_passes_of_a_step_are_in_tf32_and_evaluation_is_not(monkeypatch, micro_batches):
    seen = []

    def note(*_):
        seen.append(torch.backends.cuda.matmul.fp32_precision)

    on_a_gpu(monkeypatch, note)
    one = cell(micro_batches, precision="tf32")
    one.sae.register_forward_hook(note)
    one.sae.stack()[0].encoder.register_hook(note)
    one.step(DATA[:BATCH])
    assert seen == 3 * micro_batches * ["tf32"]
    one.code(DATA)
    assert seen.pop() != "tf32"


def test_a_step_that_fails_leaves_nothing_in_tf32(monkeypatch):
    before = setting()

    def fail():
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        raise torch.OutOfMemoryError

    on_a_gpu(monkeypatch, fail)
    with pytest.raises(torch.OutOfMemoryError):
        cell(precision="tf32").step(DATA[:BATCH])
    assert setting() == before
