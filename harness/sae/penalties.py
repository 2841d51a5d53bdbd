"""Auxiliary terms of the loss: small functions of an SAE and what it made of a batch.

The spread of the pre-activation means is the standard deviation over latents of the batch means of their
pre-activations, averaged over coders. A latent whose mean lies far below the others' never reaches the top k;
holding the means together keeps it in play. Adding a penalty is a function here and its entry in `PENALTIES`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from harness.sae.model import SAE, Coded
from harness.sae.sparse import positive_means


def linear_spread(sae: SAE, coded: Coded) -> Tensor:
    """The spread of the means of W x + b.

    mean_b(W x_b + b) = W mean_b(x_b) + b: no dense product, and a gradient of rank one. On centred activations the
    mean of x is near 0 and the term acts on the biases almost alone.
    """
    means = [linear(x.mean(0), c.encoder, c.bias) for c, x in zip(sae.stack(), coded.inputs, strict=True)]
    return torch.stack([m.std() for m in means]).mean()


def relu_spread(sae: SAE, coded: Coded) -> Tensor:
    """The spread of the means of relu(W x + b), as the original deep-SAE code had it."""
    means = [
        positive_means(x, coder.encoder, coder.bias, code.pre_activations)
        for coder, x, code in zip(sae.stack(), coded.inputs, coded.codes, strict=True)
    ]
    return torch.stack([m.std() for m in means]).mean()


PENALTIES: dict[str, Callable[[SAE, Coded], Tensor]] = {"relu": relu_spread, "linear": linear_spread}
