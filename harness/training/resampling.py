"""Resampling: dead latents start again as directions that the SAE reconstructs badly.

Bricken et al. 2023 (transformer-circuits.pub, "Neuron Resampling"): inputs are drawn in proportion to their
squared loss; a dead latent's decoder row becomes the unit input, its encoder row the same at 0.2 times the mean
norm of the others', its bias 0, and the optimizer forgets it. A threshold of its own (JumpReLU) starts again, too:
as many standard deviations of its pre-activation high as at initialisation. A transcoder's decoder row becomes the
unit target of the drawn token, as an SAE's is the unit input, which is its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.sae.model import SAE, Coder, SAEOutput
from harness.training.optimizers import Optimizer

SHARE = 0.2  # of the other encoder rows' mean norm


class LossSamples(NamedTuple):
    """What dead latents of one coder start again from."""

    inputs: Tensor  # [B, W]: what its sparse layer saw
    loss: Tensor  # [B]: squared error that it left over
    targets: Tensor  # [B, D]: what it was to reconstruct


def sources(output: SAEOutput) -> list[LossSamples]:
    """Of each coder, without gradient."""
    found = []
    for part in output.coders:
        assert part.target is not None
        loss = part.residual.detach().square().sum(1)
        found.append(LossSamples(part.input.detach(), loss, part.target.detach()))
    return found


@torch.no_grad()
def resample(
    sae: SAE,
    sources: Sequence[LossSamples],
    dead: Tensor,
    optimizers: Sequence[Optimizer],
    generator: torch.Generator,
) -> None:
    """Restart the dead latents (bool, [latents of all coders]) from one source for each coder.

    generator: a CPU generator, so that the draws are the same on every device.
    """
    masks = torch.split(dead, [coder.latents for coder in sae.stack()])
    for coder, source, mask in zip(sae.stack(), sources, masks, strict=True):
        rows = mask.nonzero()[:, 0]
        if len(rows):
            drawn = _drawn(source.loss, len(rows), generator).to(rows.device)
            _restart(coder, source.inputs[drawn], mask, rows)
            if sae.is_transcoder and coder.decoder_mlp.weight_out is None:
                coder.decoder[rows] = normalize(source.targets[drawn], dim=1)
            elif not sae.is_transcoder and coder.decoder.shape[1] == coder.encoder.shape[1]:
                coder.decoder[rows] = normalize(source.inputs[drawn], dim=1)
            # after a decoder of another width, or before decoder layers, no direction is known: the old rows stay
            for parameter in (coder.encoder, coder.decoder, coder.bias, *coder.sparsifier.parameters()):
                _forget(optimizers, parameter, rows)


def _drawn(loss: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """So many tokens, by their loss [B]."""
    # nan_to_num: a cell that diverges shall be found out by its curve, not by the draw
    weights = loss.cpu().double().square().nan_to_num(0, 1) + 1e-30
    return torch.multinomial(weights, count, replacement=True, generator=generator)


def _restart(coder: Coder, inputs: Tensor, dead: Tensor, rows: Tensor) -> None:
    """The side of the encoder. inputs: one for each of the rows."""
    directions = normalize(inputs, dim=1)
    alive = coder.encoder[~dead]
    norm = torch.linalg.vector_norm(alive, dim=1).mean() if len(alive) else coder.encoder.new_ones(())
    coder.encoder[rows] = SHARE * norm * directions
    coder.bias[rows] = 0
    coder.sparsifier.restart(rows, SHARE * norm)


def _forget(optimizers: Sequence[Optimizer], parameter: torch.nn.Parameter, rows: Tensor) -> None:
    """Moments of these rows start from nothing; a schedule-free optimizer's second copy follows the parameter."""
    for optimizer in optimizers:
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                value[rows] = parameter[rows] if name == "z" else 0
