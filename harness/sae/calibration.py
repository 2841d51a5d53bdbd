"""Cutoffs for evaluation, such that each sparse layer has its k active latents per token on average.

Errors can be compared at equal L0 only, and a sparsifier that decides by thresholds does not end at its k alone.
The cutoff is chosen on training activations, so that held-out ones decide nothing. docs/definitions.md says what
other packages do.

Shape letters: B tokens of a batch, T tokens of all batches, D activation width, N latents of one coder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.sae.model import SAE, Coder
from harness.sae.sparse import pre_activations
from harness.sae.sparsifiers import Calibrated


@dataclass(frozen=True)
class Calibration:
    """What was set for one sparse layer. L0: active latents per token, mean over the T tokens."""

    cutoff: float  # batch top-k: the threshold; JumpReLU: the factor that multiplies all learned thresholds
    l0: float  # at the cutoff: k, or less where fewer than k T pre-activations are positive
    l0_learned: float | None  # at the learned thresholds; None where none are learned


def needs_calibration(sae: SAE) -> bool:
    """Whether its codes at evaluation depend on cutoffs."""
    return any(isinstance(coder.sparsifier, Calibrated) for coder in sae.stack())


@torch.no_grad()
def calibrate(sae: SAE, batches: Sequence[Tensor]) -> list[Calibration]:
    """Set the cutoffs of an SAE in evaluation mode, coder after coder: each sees what those before it leave over.

    A transcoder's coders all see its input.

    batches: of what the SAE sees, [B, D] each, at least one token in all. Takes one encoder pass over them for
    each coder, and one whole pass for each but the last. Returns what was set for each coder that has a cutoff.
    """
    found = []
    for number, coder in enumerate(sae.stack()):
        if number and not sae.is_transcoder:
            before = sae.stack()[number - 1]
            batches = [before(x, x).residual for x in batches]
        if isinstance(coder.sparsifier, Calibrated):
            found.append(_calibrate(coder, coder.sparsifier, batches))
    return found


def _calibrate(coder: Coder, sparsifier: Calibrated, batches: Sequence[Tensor]) -> Calibration:
    tokens = sum(map(len, batches))
    wanted = sparsifier.k * tokens
    top, learned = coder.bias.new_empty(0), 0
    for x in batches:
        scores = sparsifier.scores(pre_activations(coder.encoder_mlp(x), coder.encoder, coder.bias)).flatten()
        top = _largest(top, scores, wanted + 1)
        if sparsifier.LEARNED is not None:
            learned += int((scores > sparsifier.LEARNED).sum())
    if (
        len(top) > wanted
    ):  # halfway between the last that is wanted and the first that is not: rounding moves neither
        sparsifier.cutoff.copy_(top.topk(2, largest=False).values.mean())
    else:
        sparsifier.cutoff.zero_()
    return Calibration(
        cutoff=float(sparsifier.cutoff),
        l0=int((top > sparsifier.cutoff).sum()) / tokens,
        l0_learned=None if sparsifier.LEARNED is None else learned / tokens,
    )


def _largest(top: Tensor, scores: Tensor, count: int) -> Tensor:
    """The `count` largest of both that are positive, in no order; all that there are if these are fewer."""
    floor = top.amin() if len(top) == count else 0
    top = torch.cat([top, scores[scores > floor]])
    return top.topk(count, sorted=False).values if len(top) > count else top
