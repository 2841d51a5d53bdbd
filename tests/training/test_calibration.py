"""L0 of cells whose sparsifier decides by thresholds: k on held-out activations, too, which decide nothing."""

import pytest
import torch

from harness.evaluation.quality import measure
from harness.sae.sparsifiers import Calibrated
from harness.study.catalogue import SPARSIFIERS
from harness.training.cell import Cell
from harness.training.centring import Centring
from harness.training.checkpoint import Checkpoints
from harness.training.cohort import Cohort
from harness.training.metrics import HeldOut
from harness.training.sae_files import SAEConfig
from harness.training.stream import Batch
from harness.training.trained_sae import TrainedSAE
from harness.training.trainer import CALIBRATION_TOKENS, Samples, Stopwatch, train
from tests.training.cells import batches, cell, recipe, run

WIDTH, FEATURES, K, BATCH, STEPS = 16, 40, 4, 128, 40
CALIBRATED = [name for name, spec in SPARSIFIERS.items() if issubclass(spec.load(), Calibrated)]


def made_of_features(tokens: int, seed: int) -> torch.Tensor:
    """A tenth of 40 directions at a time, [tokens, 16]."""
    directions = torch.randn(FEATURES, WIDTH, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    codes = torch.rand(tokens, FEATURES, generator=generator) * (
        torch.rand(tokens, FEATURES, generator=generator) < 0.1
    )
    return codes @ directions


TRAINING = made_of_features(CALIBRATION_TOKENS + BATCH, seed=1)
CENTRING = Centring(torch.zeros(WIDTH), torch.ones(()))
HELD_OUT = HeldOut(made_of_features(20_000, seed=2), scale=1.0)


@pytest.mark.parametrize("layers", ["none", "sparse 3"])
@pytest.mark.parametrize("sparsifier", CALIBRATED)
def test_held_out_l0_is_k_within_a_hundredth(tmp_path, layers, sparsifier):
    made = recipe(
        layers=layers, sparsifier=sparsifier, k=K, batch=BATCH, tokens=BATCH * STEPS, latents=96, lr=2e-2
    )
    one = Cell(made, WIDTH, torch.device("cpu"))
    curve: list = []
    samples = Samples(HELD_OUT, lambda tokens: TRAINING[:tokens])
    training = train(one, samples, Checkpoints(tmp_path), curve.append, Stopwatch(), 12)
    Cohort({"it": training}).train(lambda step: Batch(*2 * [TRAINING[step * BATCH :][:BATCH]]), 1e9)

    sae = TrainedSAE.of(one, SAEConfig(made, CENTRING, CENTRING))
    figures = measure(sae, HELD_OUT)
    assert figures["l0"] == pytest.approx(K, rel=0.01)
    assert curve[-1]["heldout_l0"] == pytest.approx(K, rel=0.05)  # of fewer tokens, calibrated on fewer
    assert one.calibration is not None
    assert one.calibration["tokens"] == CALIBRATION_TOKENS
    assert sum(layer["l0"] for layer in one.calibration["layers"]) == pytest.approx(K, rel=1e-3)
    for measured, coder in zip(figures["layers"], one.sae.stack(), strict=True):
        assert measured["l0"] == pytest.approx(coder.sparsifier.k, rel=0.02)


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
def test_measuring_a_cell_does_not_change_what_it_trains_to(tmp_path, sparsifier):
    measured, undisturbed = cell(sparsifier=sparsifier), cell(sparsifier=sparsifier)
    run(measured, Checkpoints(tmp_path))
    for step in range(undisturbed.recipe.steps):
        undisturbed.step(*batches(step))
    weights = dict(undisturbed.sae.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in measured.sae.named_parameters())
