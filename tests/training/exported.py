"""Trained SAEs of every kind that other packages have, in units in which mean and scale matter."""

from __future__ import annotations

from typing import Any

import torch

from harness import TrainedSAE
from harness.training.cell import Cell
from harness.training.centring import Centring
from harness.training.sae_files import SAEConfig
from tests.training.cells import recipe

WIDTH, TARGET_WIDTH, TOKENS = 8, 6, 500
TARGET = Centring(torch.linspace(2, -3, TARGET_WIDTH), torch.tensor(0.3))
INPUT = Centring(torch.linspace(-40, 60, WIDTH), torch.tensor(3.7))  # a mean that is ten times the spread
SAES: dict[str, dict[str, Any]] = {
    "topk": {},
    "uncentred": {"inputs": "uncentred"},
    "free decoder norms": {"decoder_norm": "free"},
    "batchtopk": {"sparsifier": "batchtopk"},
    "relu": {"sparsifier": "relu"},
    "jumprelu": {"sparsifier": "jumprelu", "inputs": "uncentred"},
}
SAE_LENS = {
    "topk": "topk",
    "uncentred": "topk",
    "free decoder norms": "topk",
    "batchtopk": "jumprelu",
    "relu": "standard",
    "jumprelu": "jumprelu",
}
SPARSIFY = [name for name, architecture in SAE_LENS.items() if architecture == "topk"]
TRANSCODERS = ["relu", "jumprelu", "batchtopk"]


def activations(centring: Centring = INPUT) -> torch.Tensor:
    """[T, D], in the language model's own units."""
    draw = torch.Generator().manual_seed(2)
    return centring.restore(torch.randn(TOKENS, len(centring.mean), generator=draw))


def trained(target: Centring | None = None, **changes: Any) -> TrainedSAE:
    """A few steps of training; with a target, a transcoder."""
    given = recipe(**changes)
    width = None if target is None else len(target.mean)
    cell = Cell(given, WIDTH, torch.device("cpu"), INPUT, target_width=width, target_centring=target)
    x = INPUT.centre(activations())
    y = None if target is None else target.centre(activations(target))
    for _ in range(12):
        cell.step(x[: given.batch], None if y is None else y[: given.batch])
    with cell.evaluating():
        if cell.calibrated:
            cell.calibrate(x)
    config = SAEConfig(
        given,
        INPUT,
        target or INPUT,
        source="made up",
        transcoder=target is not None,
        hook="transformer.h.0",
        target_hook=None if target is None else "transformer.h.0.mlp",
    )
    sae = TrainedSAE.of(cell, config)
    draw = torch.Generator().manual_seed(3)
    for name, parameter in sae.sae.named_parameters():
        if not name.endswith("log_threshold"):
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)  # so that none is 0
    return sae


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The same to float32's rounding of numbers as large as these."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5 * float(expected.abs().max()))
