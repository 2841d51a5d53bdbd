"""Muon's step by the kernels for GPUs, against its formula in float64; by Triton's interpreter."""

import pytest
import torch

from harness.optimizers.gram import orthogonalise_together
from harness.optimizers.muon import MOMENTUM, RMS, Muon, orthogonalise
from harness.sae import gpu
from harness.training.cell import Cell
from harness.training.fused_adam import RATES
from harness.training.fused_muon import FusedMuon
from harness.training.step_numbers import StepNumbers
from tests.training.cells import CENTRING, DATA, WIDTH, recipe

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def test_matrices_of_any_shape_are_orthogonalised_together():
    matrices = [numbers(*shape) for shape in [(8, 8), (5, 17), (30, 4), (1, 7), (40, 8), (8, 50)]]
    scales = [1 / (torch.linalg.vector_norm(matrix) + 1e-7) for matrix in matrices]
    for ours, matrix in zip(orthogonalise_together(matrices, scales), matrices, strict=True):
        torch.testing.assert_close(ours.cpu(), orthogonalise(matrix.cpu()), atol=1e-4, rtol=1e-4)


def spectrum(kind: str, size: int) -> torch.Tensor:
    ranks = torch.arange(1, size + 1)
    few = torch.full((size,), 1e-4).index_fill(0, torch.tensor([0]), 1.0)
    return {
        "flat": torch.ones(size),
        "falling": ranks**-1.5,
        "wide": 10.0 ** (-6 * ranks / size),
        "one large": few,
        "of deficient rank": ranks**-0.5 * (ranks <= size // 2),
    }[kind].double()


@pytest.mark.parametrize("kind", ["flat", "falling", "wide", "one large", "of deficient rank"])
def test_in_bfloat16_they_are_nearer_than_by_iterations_in_bfloat16(kind):
    left = torch.linalg.qr(numbers(300, 64).double().cpu()).Q
    right = torch.linalg.qr(numbers(64, 64, seed=1).double().cpu()).Q
    given = (left * spectrum(kind, 64)) @ right
    rounded = given.bfloat16()
    wanted = orthogonalise(rounded.double())
    (ours,) = orthogonalise_together(
        [rounded.to(DEVICE)], [1 / torch.linalg.vector_norm(given).float().to(DEVICE)]
    )
    theirs = orthogonalise(rounded)  # on a CPU, in the type that it is given
    error, other = (torch.linalg.vector_norm(x.cpu().double() - wanted) for x in (ours, theirs))
    assert error < 1.05 * other
    assert error < 0.1 * torch.linalg.vector_norm(wanted)


class Step:
    """A step of two matrices and a vector: an encoder, a decoder of unit norm, a bias."""

    def __init__(self, limit: float | None, rows: int, width: int, *, unit: bool = True) -> None:
        shapes = [(rows, width), (rows, width), (rows,)]
        self.parameters = [torch.nn.Parameter(numbers(*shape, seed=n)) for n, shape in enumerate(shapes)]
        with torch.no_grad():
            self.parameters[1] /= self.parameters[1].norm(dim=1, keepdim=True)
        self.optimizers = [Muon(self.parameters[:2], lr=0.1), torch.optim.Adam(self.parameters[2:], lr=0.1)]
        self.decoders = self.parameters[1:2] if unit else []
        assert FusedMuon.fits(self.optimizers, self.decoders)
        self.fused = FusedMuon(self.optimizers, self.decoders, limit, self.parameters[:2])

    def take(self, number: int) -> list[torch.Tensor]:
        gradients = [0.3 * numbers(*p.shape, seed=10 * number + n) for n, p in enumerate(self.parameters)]
        for p, gradient in zip(self.parameters, gradients, strict=True):
            p.grad = gradient.clone()
        of_step = StepNumbers(1, RATES, gradients[0].device)
        of_step.prepare(number - 1, lambda step: self.fused.rates_of(0.1, step + 1))
        self.fused.round_again()
        self.fused.update(of_step)
        return gradients


@pytest.mark.parametrize("limit", [None, 1.0])
@pytest.mark.parametrize(("rows", "width", "unit"), [(24, 6, True), (5, 40, True), (24, 6, False)])
def test_a_fused_step_is_that_of_the_formula(monkeypatch, limit, rows, width, unit):
    pytest.importorskip("triton", reason="Triton is not installed: the kernels for GPUs are not tested")
    monkeypatch.setattr(gpu, "DEVICES", {DEVICE})
    step = Step(limit, rows, width, unit=unit)
    weights = [p.detach().double() for p in step.parameters]
    momenta = [torch.zeros_like(w) for w in weights[:2]]
    for number in (1, 2):
        gradients = [g.double() for g in step.take(number)]
        if unit:
            gradients[1] -= (gradients[1] * weights[1]).sum(1, keepdim=True) * weights[1]
        norm = torch.stack([g.norm() for g in gradients]).norm()
        factor = min(1.0, limit / float(norm)) if limit else 1.0
        for n in (0, 1):
            gradient = factor * gradients[n]
            momenta[n] = MOMENTUM * momenta[n] + (1 - MOMENTUM) * gradient
            direction = (1 - MOMENTUM) * gradient + MOMENTUM * momenta[n]
            moved = 0.1 * RMS * max(rows, width) ** 0.5 * orthogonalise(direction.cpu()).to(DEVICE)
            weights[n] = weights[n] - moved
            if unit and n == 1:
                weights[n] /= weights[n].norm(dim=1, keepdim=True)
            p = step.parameters[n]
            close = {"rtol": 0, "atol": 0.02 * float(moved.abs().max())}  # the update is rounded to bfloat16
            torch.testing.assert_close(p.detach().double(), weights[n], **close)
            state = step.optimizers[0].state[p]
            torch.testing.assert_close(state["momentum"].double(), momenta[n], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(p.rounded.float(), p.detach(), rtol=2**-7, atol=0)
            weights[n] = p.detach().double()
        assert step.optimizers[1].state[step.parameters[2]]["step"] == number


def test_a_resumed_cell_goes_on_to_the_same_bits(monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed: the kernels for GPUs are not tested")
    monkeypatch.setattr(gpu, "DEVICES", {DEVICE})

    def cell():
        changes = {"latents": 16, "batch": 8, "optimizer": "muon", "layers": "dense 2-2"}
        return Cell(recipe(**changes), WIDTH, torch.device(DEVICE), CENTRING)

    whole, resumed = cell(), cell()
    for step in range(4):
        whole.step(DATA[8 * step :][:8].to(DEVICE))
        if step == 1:
            resumed.load_state({name: value.clone() for name, value in whole.state().items()})
        elif step > 1:
            resumed.step(DATA[8 * step :][:8].to(DEVICE))
    ours, theirs = whole.state(), resumed.state()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
