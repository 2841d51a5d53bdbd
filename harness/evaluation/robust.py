"""Errors of reconstruction that massive activations do not decide, beside FVU. See docs/definitions.md.

All take a trained SAE and held-out activations, centred and scaled. Shape letters: T held-out tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.evaluation.measurements import Figures
from harness.training.metrics import HeldOut
from harness.training.trained_sae import TrainedSAE

NEAREST = 0.95  # of the tokens
LEAST = 1e-4  # of the mean of squares: below it a token is constant over dimensions


def trimmed_fvu(sae: TrainedSAE, held_out: HeldOut) -> Figures:
    """FVU of the 95 % of the tokens that are nearest to the held-out mean, about their own mean.

    Which these are does not depend on the SAE.
    """
    errors = held_out.coded_by(sae.code).errors
    nearest = held_out.squares.argsort(stable=True)[: max(1, round(NEAREST * len(errors)))]
    return {"fvu_trimmed": float(errors[nearest].sum() / _squares(held_out, nearest).sum())}


def dimensions_fvu(sae: TrainedSAE, held_out: HeldOut) -> Figures:
    """Mean over dimensions of the FVU of each; those that are constant on held-out tokens do not count."""
    errors = held_out.coded_by(sae.code).dimension_errors
    squares = _squares(held_out, torch.arange(len(held_out.target), device=errors.device))
    varying = squares > 0
    return {"fvu_dimensions": float((errors[varying] / squares[varying]).mean())}


def median_nmse(sae: TrainedSAE, held_out: HeldOut) -> Figures:
    """Median over tokens of the squared error over the squared distance from the held-out mean."""
    errors = held_out.coded_by(sae.code).errors
    return {"nmse_median": float((errors / held_out.squares.double().clamp_min(1e-12)).median())}


def layer_norm_nmse(sae: TrainedSAE, held_out: HeldOut) -> Figures:
    """Mean over tokens of the squared error over the squared distance of the token from its mean over dimensions.

    For an SAE with `inputs: layer_norm` this is the mean squared error of what it sees, if every token has norm 1.
    Tokens that hardly differ from their mean over dimensions have no direction and do not count.
    """
    errors = held_out.coded_by(sae.code).errors
    parts = []
    for rows in torch.split(held_out.target, held_out.batch):
        with_mean = (rows + held_out.mean).double()
        parts.append((with_mean - with_mean.mean(1, keepdim=True)).square().sum(1))
    squares = torch.cat(parts)
    directed = squares > LEAST * squares.mean()
    return {"nmse_layer_norm": float((errors[directed] / squares[directed]).mean())}


def _squares(held_out: HeldOut, tokens: Tensor) -> Tensor:
    """Sum of squares of each dimension about the mean of these tokens: [D], float64."""
    parts = torch.split(tokens, held_out.batch)
    sums = [held_out.target[part].double().sum(0) for part in parts]
    mean = torch.stack(sums).sum(0) / len(tokens)
    return torch.stack([(held_out.target[part].double() - mean).square().sum(0) for part in parts]).sum(0)
