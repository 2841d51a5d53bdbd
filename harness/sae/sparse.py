"""The sparse layer's arithmetic: products that touch only what is active.

With A of B·N entries on, a training step needs one dense product, the encoder's forward pass. The decoder and all
gradients go through the A active entries, by kernels of our own or by `embedding_bag`. Each sum has one order,
also on a GPU, where nothing is added atomically: the same input gives the same bits. How many are active may
differ from token to token. Nothing here waits for a GPU.

Shape letters: B tokens, N latents, A active entries of the batch, D width before the layer, W width after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from harness.sae import gpu, native
from harness.sae.row_norms import RowNorms
from harness.sae.support import FullSupport, Support, products


@torch.no_grad()
def project_rows(gradient: Tensor, weight: Tensor) -> None:
    """Take from each row of gradient [N, W] its part along the row of weight [N, W], which has unit norm."""
    if gpu.usable(gradient, weight):
        gpu.project(gradient, weight)
        return
    if native.usable(gradient, weight):
        native.project(gradient, weight)
        return
    places = torch.arange(len(weight), device=weight.device)
    along = products(gradient, weight, places, places, places)  # reads both once and writes no [N, W]
    gradient.addcmul_(along.unsqueeze(1), weight, value=-1)


@torch.no_grad()
def normalise_rows(weight: Tensor) -> None:
    """Bring each row of weight [N, W] to unit norm."""
    if gpu.usable(weight):
        gpu.normalise(weight)
    elif native.usable(weight):
        native.normalise(weight)
    else:
        weight.div_(torch.linalg.vector_norm(weight, dim=1, keepdim=True).clamp_min_(1e-12))


@dataclass(frozen=True)
class SparseCode:
    """A batch of codes: values [A] (not negative; 0 means that the latent did not fire) and their support.

    active: the pre-activations of these entries, [A], with gradient.
    pre_activations: what they were selected from, [B, N], without; None where a shortlist was enough.
    """

    values: Tensor
    active: Tensor
    support: Support
    pre_activations: Tensor | None

    def fired(self) -> Tensor:
        """Number of tokens that each latent fired on: [N], float."""
        return self.support.fired(self.values)

    def dense(self) -> Tensor:
        """The codes with their zeros: [B, N]."""
        return self.support.dense(self.values)


def rounded(rows: Tensor) -> Tensor:
    """Rows as they are read, in bfloat16 where a GPU's products are: half as many bytes; sums are float32's.

    A parameter may have a copy of itself that is kept up to date (`harness.training.fused_adam`).
    """
    if not (torch.is_autocast_enabled(rows.device.type) and gpu.usable(rows)):
        return rows
    kept: Tensor | None = getattr(rows, "rounded", None)
    return rows.detach().bfloat16() if kept is None else kept


def _norms_of(weight: Tensor) -> RowNorms | None:
    """Where the norms of its gradient's rows may be put, if a parameter has such a place."""
    return getattr(weight, "row_norms", None)


class _Active(torch.autograd.Function):
    """Entries of `x W^T + b` that are known already, with its gradient at these entries only.

    Those that come from a product of lower precision decided what is selected, and are computed again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        entries: Tensor,
        support: Support,
        read: tuple[Tensor, Tensor],
    ) -> Tensor:
        ctx.norms = _norms_of(weight)
        x, weight = read  # as they are gathered; gradients are those of x and weight
        ctx.save_for_backward(x, weight)
        ctx.support = support
        if entries.dtype != bias.dtype and not isinstance(support, FullSupport):
            return support.inner_products(x, weight, bias)
        return entries.view_as(entries)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        x, weight = ctx.saved_tensors
        support: Support = ctx.support
        grad = grad.contiguous()
        grad_x = support.weighted_rows(grad, weight) if ctx.needs_input_grad[0] else None
        return grad_x, *support.weighted_tokens_and_totals(grad, x, ctx.norms), None, None, None


class _Decode(torch.autograd.Function):
    """Codes to rows: a bias, and the sum of the active latents' decoder rows, weighted by their values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, support: Support, read: Tensor) -> Tensor:
        ctx.norms = _norms_of(weight)
        weight = read  # as it is gathered; the gradient is that of weight
        ctx.save_for_backward(values, weight)
        ctx.support = support
        return support.weighted_rows(values, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        values, weight = ctx.saved_tensors
        support: Support = ctx.support
        grad_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        grad = grad.contiguous().to(weight.dtype)
        grad_values = support.inner_products(grad, weight) if ctx.needs_input_grad[0] else None
        grad_weight = support.weighted_tokens(values, grad, ctx.norms) if ctx.needs_input_grad[1] else None
        return grad_values, grad_weight, grad_bias, None, None


class _PositiveMeans(torch.autograd.Function):
    """Batch means of relu(x W^T + b), from the pre-activations that the selection has looked through already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, pre_activations: Tensor) -> Tensor:
        if gpu.usable(pre_activations):
            sums, counts = gpu.positive(pre_activations)
            ctx.save_for_backward(x, weight, pre_activations, counts)
            return sums / len(x)
        ctx.save_for_backward(x, weight, pre_activations, None)
        return pre_activations.relu().mean(0, dtype=x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, pre_activations, counts = ctx.saved_tensors
        # [B, N]: dense, since every positive entry has a part; relu's own gradient makes it in one pass.
        dtype = pre_activations.dtype
        each = (grad / len(x)).to(dtype).expand_as(pre_activations)
        dense = torch.ops.aten.threshold_backward(each, pre_activations, 0)
        grad_x = (dense @ weight.to(dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        grad_bias = dense.sum(0, dtype=x.dtype) if counts is None else counts * (grad / len(x))
        return grad_x, (dense.T @ x.to(dtype)).to(x.dtype), grad_bias, None


def pre_activations(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b without gradient: x [B, D], weight [N, D], bias [N] -> [B, N], of the precision of autocast."""
    with torch.no_grad():
        return torch.addmm(bias, x, rounded(weight).T)


def active_entries(
    x: Tensor, weight: Tensor, bias: Tensor, entries: Tensor, support: Support, rounded_x: Tensor | None = None
) -> Tensor:
    """The `entries` [A] of x W^T + b [B, N] in `support`, made differentiable in x, weight and bias.

    rounded_x: what `rounded` makes of x, where that is there already.
    """
    read = (rounded(x) if rounded_x is None else rounded_x, rounded(weight))
    return cast(Tensor, _Active.apply(x, weight, bias, entries, support, read))  # type: ignore[no-untyped-call]


def positive_means(x: Tensor, weight: Tensor, bias: Tensor, pre_activations: Tensor) -> Tensor:
    """Batch means [N] of relu(x W^T + b), given x W^T + b.

    Differentiable in x, weight and bias, at the price of up to two dense products.
    """
    return cast(Tensor, _PositiveMeans.apply(x, weight, bias, pre_activations))  # type: ignore[no-untyped-call]


def decode(values: Tensor, support: Support, weight: Tensor, bias: Tensor) -> Tensor:
    """The bias [W], and the sum of the active latents' rows of weight [N, W], weighted by values [A]: [B, W]."""
    read = rounded(weight)
    return cast(Tensor, _Decode.apply(values, weight, bias, support, read))  # type: ignore[no-untyped-call]
