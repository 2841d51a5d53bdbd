"""Auxiliary terms of the loss: small functions of named tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def pre_activation_spread(means: tuple[Tensor, ...]) -> Tensor:
    """Standard deviation over latents of the batch means of their pre-activations, averaged over coders.

    means: one [N] tensor a coder, before top-k and ReLU (the linear variant). Latents whose mean lies far below
    the others' never reach the top k; holding the means together keeps all of them in play.
    """
    return torch.stack([m.std() for m in means]).mean()
