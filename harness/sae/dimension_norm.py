"""Decoder weights at unit norm for each output dimension rather than for each latent, and weights that start so.

The original deep-SAE code (github.com/armaan-abraham/mlsae) normalises the weight [out, in] of every linear layer
behind the sparse one over its inputs. For the sparse layer's decoder these are the latents: the norms of single
latents stay free, and the squares of all weights add up to the width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Generator, Tensor, nn

from harness.sae.layers import DenseBlock
from harness.sae.model import SAE, Coder


def _weights(blocks: Iterable[nn.Module]) -> list[Tensor]:
    """Of added layers, in data-flow order."""
    return [block.weight for block in blocks if isinstance(block, DenseBlock)]


def _decoder_weights(coder: Coder) -> list[tuple[Tensor, int]]:
    """The matrices behind the sparse layer, in data-flow order, and the dimension of each that is summed over."""
    layers = _weights(coder.decoder_mlp.blocks)
    last = [] if coder.decoder_mlp.weight_out is None else [coder.decoder_mlp.weight_out]
    return [(coder.decoder, 0), *((weight, 1) for weight in (*layers, *last))]


@torch.no_grad()
def normalise_dimensions(sae: SAE) -> None:
    """Bring the weights of every output dimension to unit norm, in all matrices behind the sparse layers."""
    for coder in sae.stack():
        for weight, inputs in _decoder_weights(coder):
            weight.div_(torch.linalg.vector_norm(weight, dim=inputs, keepdim=True).clamp_min_(1e-12))


@torch.no_grad()
def project_dimensions(sae: SAE) -> None:
    """Remove the part of each gradient that would only change the norm of an output dimension, which is 1."""
    for coder in sae.stack():
        for weight, inputs in _decoder_weights(coder):
            if weight.grad is not None:
                along = (weight.grad * weight).sum(inputs, keepdim=True)
                weight.grad.addcmul_(along, weight, value=-1)


@torch.no_grad()
def start_kaiming(sae: SAE, generator: Generator) -> None:
    """Draw the encoders anew with variance 2 / width (He et al. 2015), and tie the decoders to them.

    In an SAE every layer behind the sparse one starts as the transpose of the layer opposite, where their shapes
    fit; all of them at unit norm for each output dimension. Added layers keep the weights that they were built
    with, which have this variance already. Row norms are about the square root of 2, not 1.
    """
    for coder in sae.stack():
        latents, width = coder.encoder.shape
        coder.encoder.copy_(torch.randn(latents, width, generator=generator) * (2 / width) ** 0.5)
        if not sae.is_transcoder:
            opposite = [coder.encoder, *(weight.T for weight in reversed(_weights(coder.encoder_mlp.blocks)))]
            for (weight, _), other in zip(_decoder_weights(coder), opposite, strict=False):
                if weight.shape == other.shape:
                    weight.copy_(other)
    normalise_dimensions(sae)
