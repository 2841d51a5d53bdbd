"""Added layers: the dense blocks before and after the sparse layer.

Shape letters: B tokens, I width in, O width out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import layer_norm, linear

from harness.sae.roles import Role


class DenseBlock(nn.Module):
    """linear -> ReLU, and a LayerNorm with gain and shift where `norm` is set: [B, I] -> [B, O]."""

    ROLES: ClassVar = {"weight": Role.HIDDEN, "bias": Role.BIAS, "gain": Role.GAIN, "shift": Role.BIAS}

    def __init__(self, width_in: int, width_out: int, *, norm: bool, generator: Generator) -> None:
        super().__init__()
        # He et al. 2015 (arXiv 1502.01852): variance 2 / fan-in keeps the scale after a ReLU.
        weight = torch.randn(width_out, width_in, generator=generator) * (2 / width_in) ** 0.5
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(width_out))
        self.gain = nn.Parameter(torch.ones(width_out)) if norm else None
        self.shift = nn.Parameter(torch.zeros(width_out)) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = linear(x, self.weight, self.bias).relu()
        if self.gain is None:
            return x
        return layer_norm(x, self.bias.shape, self.gain, self.shift)


class DenseEncoder(nn.Module):
    """[linear -> ReLU -> LayerNorm] for each width, then / sqrt(last width); no widths: the identity."""

    def __init__(self, width: int, widths: Sequence[int], generator: Generator) -> None:
        super().__init__()
        sizes = [width, *widths]
        self.blocks = nn.ModuleList(DenseBlock(i, o, norm=True, generator=generator) for i, o in pairwise(sizes))
        self.width = sizes[-1]
        self.scale = self.width**-0.5 if widths else 1.0  # standard deviation of the output, to begin with

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x * self.scale if self.blocks else x


class DenseDecoder(nn.Module):
    """From the sparse layer's decoded rows [B, first width] back to [B, width].

    No widths: the rows plus a bias. Otherwise they are the first layer's pre-activations:
    ReLU, [linear -> ReLU] for each further width, and a last linear layer.
    """

    ROLES: ClassVar = {"bias_in": Role.BIAS, "weight_out": Role.HIDDEN, "bias_out": Role.BIAS}

    def __init__(self, width: int, widths: Sequence[int], generator: Generator) -> None:
        super().__init__()
        self.width_in = widths[0] if widths else width
        self.bias_in = nn.Parameter(torch.zeros(self.width_in)) if widths else None
        self.blocks = nn.ModuleList(DenseBlock(i, o, norm=False, generator=generator) for i, o in pairwise(widths))
        self.weight_out = None
        if widths:
            weight = torch.randn(width, widths[-1], generator=generator) / widths[-1] ** 0.5
            self.weight_out = nn.Parameter(weight)
        self.bias_out = nn.Parameter(torch.zeros(width))

    @property
    def first_bias(self) -> Tensor:
        """What is added to the rows before all else: [first width]."""
        return self.bias_out if self.bias_in is None else self.bias_in

    def forward(self, rows: Tensor) -> Tensor:
        return self.behind(rows + self.first_bias)

    def behind(self, rows: Tensor) -> Tensor:
        """What comes of rows that have the first bias."""
        if self.weight_out is None:
            return rows
        x = rows.relu()
        for block in self.blocks:
            x = block(x)
        return linear(x, self.weight_out, self.bias_out)

    def beyond_none(self, rows: Tensor) -> Tensor:
        """What it makes of rows [B, first width], less what it makes of a row of zeros: [B, width]."""
        if self.weight_out is None:
            return rows
        return cast(Tensor, self(rows) - self(torch.zeros_like(rows[:1])))
