"""The sparse layer's arithmetic: products that touch only what is active.

With A of B·N entries on, a training step needs one dense product, the encoder's forward pass. The decoder and all
gradients go through the A active entries by `embedding_bag`, whose bags are summed in a fixed order on a CPU:
the same input gives the same bits. How many are active may differ from token to token.

Shape letters: B tokens, N latents, A active entries of the batch, K active latents a token where all have as many,
D width before the layer, W width behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from harness.sae import native


class Support:
    """Which entries of a batch's [B, N] are computed on, token after token, and the same ordered by latent.

    indices: latents [A]. starts: each token's first entry [B].
    """

    def __init__(self, indices: Tensor, starts: Tensor, latents: int) -> None:
        self.indices = indices
        self.starts = starts
        self.latents = latents

    @classmethod
    def of_rows(cls, rows: Tensor, latents: int) -> Support:
        """As many latents for each token: rows [B, K]."""
        starts = torch.arange(rows.shape[0], device=rows.device) * rows.shape[1]
        return cls(rows.flatten(), starts, latents)

    @classmethod
    def of_places(cls, places: Tensor, shape: torch.Size) -> Support:
        """The entries at `places` [A] of a flattened [B, N], in ascending order."""
        batch, latents = shape
        tokens = places // latents
        counts = torch.bincount(tokens, minlength=batch)
        return cls(places - tokens * latents, counts.cumsum(0) - counts, latents)

    @cached_property
    def tokens(self) -> Tensor:
        """The token of each entry: [A]."""
        ends = torch.cat([self.starts[1:], self.starts.new_tensor([len(self.indices)])])[: len(self.starts)]
        rows = torch.arange(len(self.starts), device=self.starts.device)
        return rows.repeat_interleave(ends - self.starts, output_size=len(self.indices))

    @cached_property
    def _by_latent(self) -> tuple[Tensor, Tensor, Tensor]:
        """order [A] of the entries by latent, their tokens [A], each latent's first entry [N]."""
        if self.indices.device.type == "cpu" and native.library() is not None:
            return native.by_latent(self.indices, self.tokens, self.latents)
        order = torch.sort(self.indices, stable=True).indices
        counts = torch.bincount(self.indices, minlength=self.latents)
        return order, self.tokens[order], counts.cumsum(0) - counts

    def where(self, kept: Tensor) -> Support:
        """The entries where kept [A] is true."""
        counts = torch.zeros_like(self.starts).index_add_(0, self.tokens, kept.to(self.starts.dtype))
        return Support(self.indices[kept], counts.cumsum(0) - counts, self.latents)

    def weighted_rows(self, values: Tensor, weight: Tensor) -> Tensor:
        """Sum over a token's active latents of value · weight row: values [A], weight [N, W] -> [B, W]."""
        return embedding_bag(self.indices, weight, self.starts, per_sample_weights=values, mode="sum")

    def weighted_tokens(self, values: Tensor, rows: Tensor) -> Tensor:
        """Sum over a latent's active tokens of value · token row: values [A], rows [B, W] -> [N, W]."""
        order, tokens, starts = self._by_latent
        if native.usable(values, rows):
            return native.weighted_tokens(values, rows, order, tokens, starts)
        return embedding_bag(tokens, rows, starts, per_sample_weights=values[order], mode="sum")

    def totals(self, values: Tensor) -> Tensor:
        """Sum of a latent's values over the tokens: values [A] -> [N]."""
        return values.new_zeros(self.latents).index_add_(0, self.indices, values)

    def inner_products(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Each token's row times its active weight rows: rows [B, W], weight [N, W] -> [A]."""
        rows = rows.contiguous()
        if native.usable(rows, weight):
            return native.inner_products(rows, weight, self.indices, self.starts)
        return _products(rows, weight, self.indices, self.starts, self.tokens)


@torch.no_grad()
def project_rows(gradient: Tensor, weight: Tensor) -> None:
    """Take from each row of gradient [N, W] its part along the row of weight [N, W], which has unit norm."""
    if native.usable(gradient, weight):
        native.project(gradient, weight)
        return
    places = torch.arange(len(weight), device=weight.device)
    along = _products(gradient, weight, places, places, places)  # reads both once and writes no [N, W]
    gradient.addcmul_(along.unsqueeze(1), weight, value=-1)


@torch.no_grad()
def normalise_rows(weight: Tensor) -> None:
    """Bring each row of weight [N, W] to unit norm."""
    if native.usable(weight):
        native.normalise(weight)
    else:
        weight.div_(torch.linalg.vector_norm(weight, dim=1, keepdim=True).clamp_min_(1e-12))


def _products(rows: Tensor, weight: Tensor, indices: Tensor, starts: Tensor, tokens: Tensor) -> Tensor:
    """The operator behind embedding_bag's gradient for its per-sample weights.

    torch has no other name for it, and a gather with a batched product takes about ten times as long on a CPU.
    """
    product = torch.ops.aten._embedding_bag_per_sample_weights_backward(rows, weight, indices, starts, tokens, 0)
    return cast(Tensor, product)


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
        return self.support.totals((self.values > 0).to(self.values.dtype))

    def dense(self) -> Tensor:
        """The codes with their zeros: [B, N]."""
        codes = self.values.new_zeros(len(self.support.starts), self.support.latents)
        codes[self.support.tokens, self.support.indices] = self.values
        return codes


class _Active(torch.autograd.Function):
    """Entries of `x W^T + b` that are known already, with its gradient at these entries only.

    Those that come from a product of lower precision decided what is selected, and are computed again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, entries: Tensor, support: Support) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.support = support
        if entries.dtype != x.dtype:
            return support.inner_products(x, weight) + bias[support.indices]
        return entries.view_as(entries)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        support: Support = ctx.support
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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, weight = ctx.saved_tensors
        support: Support = ctx.support
        grad = grad.contiguous()
        grad_values = support.inner_products(grad, weight) if ctx.needs_input_grad[0] else None
        grad_weight = support.weighted_tokens(values, grad) if ctx.needs_input_grad[1] else None
        return grad_values, grad_weight, None


class _PositiveMeans(torch.autograd.Function):
    """Batch means of relu(x W^T + b), from the pre-activations that the selection has looked through already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, pre_activations: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, pre_activations)
        return pre_activations.relu().mean(0, dtype=x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, pre_activations = ctx.saved_tensors
        # [B, N]: dense, since every positive entry has a part; relu's own gradient makes it in one pass.
        dtype = pre_activations.dtype
        each = (grad / len(x)).to(dtype).expand_as(pre_activations)
        dense = torch.ops.aten.threshold_backward(each, pre_activations, 0)
        grad_x = (dense @ weight.to(dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        return grad_x, (dense.T @ x.to(dtype)).to(x.dtype), dense.sum(0, dtype=x.dtype), None


def pre_activations(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b without gradient: x [B, D], weight [N, D], bias [N] -> [B, N], of the precision of autocast."""
    with torch.no_grad():
        return torch.addmm(bias, x, weight.T)


def active_entries(x: Tensor, weight: Tensor, bias: Tensor, entries: Tensor, support: Support) -> Tensor:
    """The `entries` [A] of x W^T + b [B, N] in `support`, made differentiable in x, weight and bias."""
    return cast(Tensor, _Active.apply(x, weight, bias, entries, support))  # type: ignore[no-untyped-call]


def positive_means(x: Tensor, weight: Tensor, bias: Tensor, pre_activations: Tensor) -> Tensor:
    """Batch means [N] of relu(x W^T + b), given x W^T + b.

    Differentiable in x, weight and bias, at the price of up to two dense products.
    """
    return cast(Tensor, _PositiveMeans.apply(x, weight, bias, pre_activations))  # type: ignore[no-untyped-call]


def decode(values: Tensor, support: Support, weight: Tensor) -> Tensor:
    """Sum of the active latents' rows of weight [N, W], weighted by values [A]: [B, W]."""
    return cast(Tensor, _Decode.apply(values, weight, support))  # type: ignore[no-untyped-call]
