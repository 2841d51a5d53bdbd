"""The sparse layer's arithmetic: top-k selection, and products that touch only what is active.

With K of N latents on, a training step needs one dense product, the encoder's forward pass. The decoder and all
gradients go through the B·K active entries by `embedding_bag`, whose bags are summed in a fixed order on a CPU:
the same input gives the same bits.

Shape letters: B tokens, N latents, K active latents a token, D width before the layer, W width behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

GROUP = 8  # entries a group in the first stage of `top_k`


class Support:
    """Which latents are active: indices [B, K] into N latents, and the same entries ordered by latent."""

    def __init__(self, indices: Tensor, latents: int) -> None:
        self.indices = indices
        self.latents = latents

    @cached_property
    def _by_latent(self) -> tuple[Tensor, Tensor, Tensor]:
        """order [B·K] of the entries by latent, their tokens [B·K], each latent's first entry [N]."""
        flat = self.indices.flatten()
        order = torch.sort(flat, stable=True).indices
        counts = torch.bincount(flat, minlength=self.latents)
        return order, order // self.indices.shape[1], counts.cumsum(0) - counts

    def weighted_rows(self, values: Tensor, weight: Tensor) -> Tensor:
        """Sum over a token's active latents of value · weight row: values [B, K], weight [N, W] -> [B, W]."""
        return embedding_bag(self.indices, weight, per_sample_weights=values, mode="sum")

    def weighted_tokens(self, values: Tensor, rows: Tensor) -> Tensor:
        """Sum over a latent's active tokens of value · token row: values [B, K], rows [B, W] -> [N, W]."""
        order, tokens, starts = self._by_latent
        return embedding_bag(tokens, rows, starts, per_sample_weights=values.flatten()[order], mode="sum")

    def totals(self, values: Tensor) -> Tensor:
        """Sum of a latent's values over the tokens: values [B, K] -> [N]."""
        totals = values.new_zeros(self.latents)
        return totals.index_add_(0, self.indices.flatten(), values.flatten())

    def inner_products(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Each token's row times its active weight rows: rows [B, W], weight [N, W] -> [B, K].

        This is the operator behind embedding_bag's gradient for its per-sample weights; torch has no other
        name for it, and a gather with a batched product takes about ten times as long on a CPU.
        """
        tokens, k = self.indices.shape
        bags = torch.arange(tokens, device=rows.device)
        product = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            rows.contiguous(), weight, self.indices.flatten(), bags * k, bags.repeat_interleave(k), 0
        )
        return cast(Tensor, product).view(tokens, k)


@dataclass(frozen=True)
class SparseCode:
    """A batch of codes: values [B, K] (not negative; 0 means that the latent did not fire) and their support.

    pre_activations: what they were selected from, [B, N], without gradient.
    """

    values: Tensor
    support: Support
    pre_activations: Tensor

    def fired(self) -> Tensor:
        """Number of tokens that each latent fired on: [N], float."""
        return self.support.totals((self.values > 0).to(self.values.dtype))


class _ActiveValues(torch.autograd.Function):
    """The active pre-activations after ReLU, with the gradient of `relu(x W^T + b)` at these entries only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, values: Tensor, support: Support) -> Tensor:
        ctx.save_for_backward(x, weight, values)
        ctx.support = support
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x, weight, values = ctx.saved_tensors
        support: Support = ctx.support
        grad = grad * (values > 0)
        grad_x = support.weighted_rows(grad, weight) if ctx.needs_input_grad[0] else None
        return grad_x, support.weighted_tokens(grad, x), support.totals(grad), None, None


class _Decode(torch.autograd.Function):
    """Codes to rows: the sum of the active latents' decoder rows, weighted by their values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, support: Support) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.support = support
        return support.weighted_rows(values, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        values, weight = ctx.saved_tensors
        support: Support = ctx.support
        grad = grad.contiguous()
        return support.inner_products(grad, weight), support.weighted_tokens(values, grad), None


class _PositiveMeans(torch.autograd.Function):
    """Batch means of relu(x W^T + b), from the pre-activations that top-k has looked through already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, pre_activations: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, pre_activations)
        return pre_activations.relu().mean(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, pre_activations = ctx.saved_tensors
        # [B, N]: dense, since every positive entry has a part; relu's own gradient makes it in one pass.
        grad = torch.ops.aten.threshold_backward((grad / len(x)).expand_as(pre_activations), pre_activations, 0)
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None
        return grad_x, grad.T @ x, grad.sum(0), None


def top_k(pre_activations: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row, exactly: [B, N] -> values [B, k], indices [B, k].

    In two stages where that is cheaper: the k largest entries lie in the k groups with the largest maxima.
    A group is every N/8-th entry, so that the maxima are taken over whole rows of memory. Which of equal
    entries is taken is not specified.
    """
    batch, latents = pre_activations.shape
    if latents % GROUP or latents < 4 * GROUP * k:
        values, indices = pre_activations.topk(k, dim=1, sorted=False)
        return values, indices
    stride = latents // GROUP
    grouped = pre_activations.view(batch, GROUP, stride)
    groups = grouped.amax(1).topk(k, dim=1, sorted=False).indices
    finalists = grouped.gather(2, groups.unsqueeze(1).expand(batch, GROUP, k)).view(batch, GROUP * k)
    values, places = finalists.topk(k, dim=1, sorted=False)
    return values, groups.gather(1, places % k) + (places // k) * stride


def positive_means(x: Tensor, weight: Tensor, bias: Tensor, pre_activations: Tensor) -> Tensor:
    """Batch means [N] of relu(x W^T + b), given x W^T + b as `encode_top_k` leaves it in its `SparseCode`.

    Differentiable in x, weight and bias, at the price of up to two dense products.
    """
    return cast(Tensor, _PositiveMeans.apply(x, weight, bias, pre_activations))  # type: ignore[no-untyped-call]


def encode_top_k(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> SparseCode:
    """top-k of relu(x W^T + b): x [B, D], weight [N, D], bias [N]. Differentiable in x, weight and bias."""
    with torch.no_grad():
        pre_activations = torch.addmm(bias, x, weight.T)
        values, indices = top_k(pre_activations, k)
        support = Support(indices, weight.shape[0])
        values = values.relu_()
    values = cast(Tensor, _ActiveValues.apply(x, weight, bias, values, support))  # type: ignore[no-untyped-call]
    return SparseCode(values, support, pre_activations)


def decode(code: SparseCode, weight: Tensor) -> Tensor:
    """Sum of the active latents' rows of weight [N, W], weighted by their values: [B, W]."""
    return cast(Tensor, _Decode.apply(code.values, weight, code.support))  # type: ignore[no-untyped-call]
