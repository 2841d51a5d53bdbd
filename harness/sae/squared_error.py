"""The mean squared error of a reconstruction, and what else the same numbers give; on a GPU in one pass.

Shape letters: B tokens, D width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from harness.sae import gpu
from harness.sae.gpu import _cdiv, _kernels, _on

BLOCK = 4096  # numbers that a program takes
PROGRAMS = 512  # that multiply a gradient


def squared_error(reconstruction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The mean squared error, and the sum of the target's squares, without gradient: two numbers.

    reconstruction, target [B, D]; the error is differentiable in the first.
    """
    if reconstruction.dtype == target.dtype == torch.float32 and gpu.usable(reconstruction, target):
        return cast(tuple[Tensor, Tensor], _SquaredError.apply(reconstruction, target))  # type: ignore[no-untyped-call]
    return mse_loss(reconstruction, target), torch.linalg.vector_norm(target.detach()).square()


class _SquaredError(torch.autograd.Function):
    """Its gradient is made along with it, since that takes no further pass."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        size = rows.numel()
        programs = max(1, _cdiv(size, BLOCK))
        gradient, sums = torch.empty_like(rows), rows.new_empty(2, programs)
        with _on(rows):
            _kernels().errors.squared_errors[(programs,)](
                rows, target, gradient, sums, size, 2 / max(1, size), BLOCK, num_warps=8
            )
        error, squares = sums.sum(1).unbind()
        ctx.gradient = gradient
        ctx.mark_non_differentiable(squares)
        return error / size, squares

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None  # changed in place: there is no second time
        with _on(gradient):
            _kernels().errors.multiply[(PROGRAMS,)](gradient, grad, gradient.numel(), BLOCK, num_warps=8)
        return gradient, None
