"""What each parameter is for: optimizers pick their rule by it, never by the number of dimensions."""

from __future__ import annotations

from enum import Enum

from torch import nn


class Role(Enum):
    ENCODER = "encoder"  # [latents, width]: one row per latent
    DECODER = "decoder"  # [latents, width]: one row per latent, of unit norm by default
    HIDDEN = "hidden"  # [out, in]: an added dense layer
    BIAS = "bias"
    GAIN = "gain"
    THRESHOLD = "threshold"  # [latents]: logarithm of the value above which a latent fires


MATRICES = frozenset({Role.ENCODER, Role.DECODER, Role.HIDDEN})


def parameter_roles(model: nn.Module) -> dict[str, Role]:
    """The role of every parameter by name, as the modules that own them declare it in `ROLES`."""
    roles = {}
    for prefix, module in model.named_modules():
        declared: dict[str, Role] = getattr(module, "ROLES", {})
        for name, _ in module.named_parameters(recurse=False):
            roles[f"{prefix}.{name}" if prefix else name] = declared[name]
    return roles
