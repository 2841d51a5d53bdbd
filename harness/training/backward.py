"""The gradients of a step: of a batch at once, or of one micro-batch after the other, with less memory.

Both are the same to rounding. What depends on means over the batch (`harness.sae.penalties.BatchStatistic`) is
linearised about the means of all micro-batches, which takes a first pass without gradient: its gradient is exact
that way.

Shape letters: B tokens, I width of the input and D of the target (one and the same for an SAE), N latents of all
coders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.sae.model import SAE, SAEOutput
from harness.study.recipe import Recipe
from harness.training.loss import StatisticGradient, loss_of, statistic_gradients, terms_with_weights
from harness.training.metrics import fired
from harness.training.precision import float32_products
from harness.training.resampling import LossSamples, sources


class Indivisible(Exception):
    """The recipe cannot be trained in micro-batches."""


class StepOutput(NamedTuple):
    """What a step saw, without gradient."""

    error: Tensor  # mean squared error
    squares: Tensor  # the sum of the target's squares
    firings: Tensor  # tokens that each latent fired on, [N]
    sources: list[LossSamples]  # of each coder, if asked for


def backward(
    recipe: Recipe,
    sae: SAE,
    x: Tensor,
    dead: Tensor,
    *,
    target: Tensor | None = None,
    micro_batches: int = 1,
    keep_sources: bool = False,
) -> StepOutput:
    """Put the gradients of the loss on x [B, I] into the SAE's parameters.

    dead [N]: see `loss_of`. target [B, D]: a transcoder's. Raises ValueError if one has none.
    """
    if sae.is_transcoder and target is None:
        raise ValueError("expected a target, which a transcoder is trained to predict")
    parts = _micro_batches(x, target, math.ceil(len(x) / micro_batches))
    with float32_products(recipe.precision, x.device):
        gradients_by_statistic = (
            None if len(parts) == 1 else statistic_gradients(recipe, sae, dead, _means(recipe, sae, dead, parts))
        )
        seen = [
            _backward(recipe, sae, part, len(part.x) / len(x), dead, gradients_by_statistic, keep_sources)
            for part in parts
        ]
    if len(seen) == 1:
        return seen[0]
    coders = zip(*(part.sources for part in seen), strict=True)
    return StepOutput(
        torch.stack([part.error for part in seen]).sum(),
        torch.linalg.vector_norm(x if target is None else target).square(),
        torch.stack([part.firings for part in seen]).sum(0),
        [LossSamples(*map(torch.cat, zip(*coder, strict=True))) for coder in coders],
    )


class _MicroBatch(NamedTuple):
    x: Tensor
    target: Tensor  # x itself for an SAE


def _micro_batches(x: Tensor, target: Tensor | None, tokens: int) -> list[_MicroBatch]:
    """Of so many tokens each."""
    inputs = torch.split(x, tokens)
    return list(map(_MicroBatch, inputs, inputs if target is None else torch.split(target, tokens)))


def _backward(
    recipe: Recipe,
    sae: SAE,
    part: _MicroBatch,
    share: float,
    dead: Tensor,
    gradients_by_statistic: Sequence[StatisticGradient] | None,
    keep: bool,
) -> StepOutput:
    """Of one micro-batch, with this share of the batch's tokens."""
    output = _output(recipe, sae, part)
    loss, error, squares = loss_of(recipe, sae, output, part.target, dead, gradients_by_statistic)
    torch.autograd.backward(loss if share == 1 else loss * share)
    return StepOutput(
        error if share == 1 else error * share, squares, fired(output), sources(output) if keep else []
    )


@torch.no_grad()
def _means(recipe: Recipe, sae: SAE, dead: Tensor, parts: Sequence[_MicroBatch]) -> list[list[Tensor]]:
    """The means of each of the `terms_with_weights` over a batch."""
    terms = [term for _, term in terms_with_weights(recipe, dead)]
    tokens = sum(len(part.x) for part in parts)
    total: list[list[Tensor]] = []
    for part in parts if terms else ():
        output = _output(recipe, sae, part)
        means = [[mean * (len(part.x) / tokens) for mean in term.means(sae, output)] for term in terms]
        total = [list(map(torch.add, *both)) for both in zip(total, means, strict=True)] if total else means
    return total


def _output(recipe: Recipe, sae: SAE, part: _MicroBatch) -> SAEOutput:
    with torch.autocast(part.x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        output: SAEOutput = sae(*part)
    return output
