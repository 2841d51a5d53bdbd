"""sparsify's step in this process, where its package is installed: no other environment is on a GPU machine."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from benchmarks.shape import LR, Shape


def has_sparsify() -> bool:
    """Whether its package is there."""
    return find_spec("sparsify") is not None


def sparsify(shape: Shape, device: torch.device) -> Callable[[Tensor], Any]:
    """Its trainer's step on a batch [B, D], in autocast to bfloat16, by its kernels."""
    from sparsify import SparseCoder, SparseCoderConfig

    config = SparseCoderConfig(num_latents=shape.latents, k=shape.k)
    sae = SparseCoder(shape.width, config, device, dtype=torch.float32)
    optimizer = torch.optim.Adam(sae.parameters(), lr=LR)
    fired = torch.zeros(shape.latents, dtype=torch.bool, device=device)
    silent = torch.zeros(shape.latents, dtype=torch.long, device=device)

    def step(x: Tensor) -> None:
        sae.set_decoder_norm_to_unit_norm()
        variance = (x - x.mean(0)).pow(2).sum()
        out = sae(x=x, y=x, dead_mask=None, total_variance=variance)
        fired[out.latent_indices.flatten()] = True
        float(out.fvu.detach())  # as its trainer does, for its log
        out.fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            silent.add_(len(x)).masked_fill_(fired, 0)
            fired.zero_()

    return step
