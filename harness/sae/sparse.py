"""The sparse layer's arithmetic: products that touch only what is active.

With A of B·N entries on, a training step needs one dense product, the encoder's forward pass. The decoder and all
gradients go through the A active entries, by kernels of our own or by `embedding_bag`. Each sum has one order,
also on a GPU, where nothing is added atomically: the same input gives the same bits. How many are active may
differ from token to token. Nothing here waits for a GPU.

Shape letters: B tokens, N latents, A active entries of the batch, K active latents per token where all have as many,
D width before the layer, W width after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from harness.sae import gpu, native


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
        return cls(places - tokens * latents, _firsts(tokens, batch), latents)

    @cached_property
    def tokens(self) -> Tensor:
        """The token of each entry: [A]."""
        ends = torch.cat([self.starts[1:], torch.full_like(self.starts[:1], len(self.indices))])
        rows = torch.arange(len(self.starts), device=self.starts.device)
        return rows.repeat_interleave(ends - self.starts, output_size=len(self.indices))

    @cached_property
    def _by_latent(self) -> tuple[Tensor, Tensor, Tensor]:
        """order [A] of the entries by latent, their tokens [A], each latent's first entry [N]."""
        if self.indices.device.type == "cpu" and native.library() is not None:
            return native.by_latent(self.indices, self.tokens, self.latents)
        order = self._sorted.indices
        return order, self.tokens[order], _firsts(self._sorted.values, self.latents)

    @cached_property
    def _sorted(self) -> torch.return_types.sort:
        """The latents [A] in their order, and which entries they are of. On GPUs, int32 sorts twice as fast."""
        return torch.sort(self.indices.int(), stable=True)

    def dense(self, values: Tensor) -> Tensor:
        """The values [A] of the entries, and zeros: [B, N]."""
        codes = values.new_zeros(len(self.starts), self.latents)
        codes[self.tokens, self.indices] = values
        return codes

    def each(self, of_latents: Tensor) -> Tensor:
        """A number of each latent [N], for each entry: something that broadcasts to the entries' shape."""
        return of_latents[self.indices]

    def first(self, values: Tensor, latents: int) -> tuple[Tensor, Support]:
        """Of the entries [A], those of the first so many latents, and their support.

        On a GPU all of them, those of other latents as 0: to learn how many are left would be to wait for it.
        """
        inside = self.indices < latents
        if gpu.holds(values):
            return values * inside, self
        return values[inside], self.where(inside)

    def where(self, kept: Tensor) -> Support:
        """The entries where kept [A] is true."""
        counts = torch.zeros_like(self.starts).index_add_(0, self.tokens, kept.to(self.starts.dtype))
        return Support(self.indices[kept], counts.cumsum(0) - counts, self.latents)

    def weighted_rows(self, values: Tensor, weight: Tensor) -> Tensor:
        """Sum over a token's active latents of value · weight row: values [A], weight [N, W] -> [B, W]."""
        if _for_kernels(values, weight):
            return gpu.weighted_rows(values, weight, self.indices, self.starts)
        return embedding_bag(self.indices, weight, self.starts, per_sample_weights=values, mode="sum")

    def weighted_tokens(self, values: Tensor, rows: Tensor) -> Tensor:
        """Sum over a latent's active tokens of value · token row: values [A], rows [B, W] -> [N, W]."""
        order, tokens, starts = self._by_latent
        if gpu.usable(values, rows):
            return gpu.weighted_tokens(values, rows, order, tokens, self._sorted.values, starts)
        if native.usable(values, rows):
            return native.weighted_tokens(values, rows, order, tokens, starts)
        return embedding_bag(tokens, rows, starts, per_sample_weights=values[order], mode="sum")

    def totals(self, values: Tensor) -> Tensor:
        """Sum of a latent's values over the tokens: values [A] -> [N]."""
        if not gpu.holds(values):
            return values.new_zeros(self.latents).index_add_(0, self.indices, values)
        order, _, starts = self._by_latent
        if _for_kernels(values):
            return gpu.totals(values, order, starts)
        # index_add_ adds in any order on a GPU
        return embedding_bag(order, values.unsqueeze(1), starts, mode="sum").squeeze(1)

    def fired(self, values: Tensor) -> Tensor:
        """Number of tokens on which a latent's value is above 0: values [A] -> [N], float."""
        return self.totals((values > 0).to(values.dtype))

    def inner_products(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Each token's row times its active weight rows: rows [B, W], weight [N, W] -> [A]."""
        rows = rows.contiguous()
        if gpu.usable(rows, weight):
            return gpu.inner_products(rows, weight, self.indices, self.starts)
        if native.usable(rows, weight):
            return native.inner_products(rows, weight, self.indices, self.starts)
        return _products(rows, weight, self.indices, self.starts, self.tokens)


class FullSupport(Support):
    """Every entry of a batch's [B, N], active or not. Values have the shape [B, N]; sums are dense products.

    For codes on a GPU that have no fixed number of active entries: to learn how many there are would be to wait,
    and at the beginning of training there are so many that dense products are faster.
    """

    def __init__(self, tokens: int, latents: int, device: torch.device) -> None:
        self.starts = torch.arange(tokens, device=device) * latents
        self.latents = latents

    @classmethod
    def of(cls, dense: Tensor) -> FullSupport:
        """That of dense [B, N]."""
        return cls(len(dense), dense.shape[1], dense.device)

    @cached_property
    def indices(self) -> Tensor:  # type: ignore[override]
        """The latent of each entry: [B, N]."""
        return torch.arange(self.latents, device=self.starts.device).expand(len(self.starts), self.latents)

    @cached_property
    def tokens(self) -> Tensor:
        """The token of each entry: [B, N]."""
        places = torch.arange(len(self.starts), device=self.starts.device)
        return places.unsqueeze(1).expand(len(self.starts), self.latents)

    def dense(self, values: Tensor) -> Tensor:
        return values

    def each(self, of_latents: Tensor) -> Tensor:
        return of_latents

    def first(self, values: Tensor, latents: int) -> tuple[Tensor, Support]:
        return values * (torch.arange(self.latents, device=values.device) < latents), self

    def weighted_rows(self, values: Tensor, weight: Tensor) -> Tensor:
        return (values @ weight.to(values.dtype)).to(torch.promote_types(values.dtype, torch.float32))

    def weighted_tokens(self, values: Tensor, rows: Tensor) -> Tensor:
        return (values.T @ rows.to(values.dtype)).to(torch.promote_types(values.dtype, torch.float32))

    def fired(self, values: Tensor) -> Tensor:
        if gpu.usable(values):
            return gpu.jump_counts(values, torch.zeros(self.latents, device=values.device))[0]
        return super().fired(values)

    def totals(self, values: Tensor) -> Tensor:
        return values.sum(0, dtype=torch.promote_types(values.dtype, torch.float32))

    def inner_products(self, rows: Tensor, weight: Tensor) -> Tensor:
        return rows @ weight.to(rows.dtype).T


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
    along = _products(gradient, weight, places, places, places)  # reads both once and writes no [N, W]
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


def _for_kernels(*tensors: Tensor) -> bool:
    """Whether a GPU's kernels take these, whose gradient is not recorded: autograd does not see through kernels."""
    recorded = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return gpu.usable(*tensors) and not recorded


def _firsts(ordered: Tensor, count: int) -> Tensor:
    """Where each of 0, 1, ..., count - 1 begins among such numbers in ascending order: [A] -> [count]."""
    return torch.searchsorted(ordered, torch.arange(count, dtype=ordered.dtype, device=ordered.device))


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
        return self.support.fired(self.values)

    def dense(self) -> Tensor:
        """The codes with their zeros: [B, N]."""
        return self.support.dense(self.values)


def _rounded(rows: Tensor) -> Tensor:
    """Rows as they are read, in bfloat16 where a GPU's products are: half as many bytes; sums are float32's.

    A parameter may have a copy of itself that is kept up to date (`harness.training.fused_adam`).
    """
    if not (torch.is_autocast_enabled(rows.device.type) and gpu.usable(rows)):
        return rows
    kept: Tensor | None = getattr(rows, "rounded", None)
    return rows.detach().bfloat16() if kept is None else kept


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
        x, weight = read  # as they are gathered; gradients are those of x and weight
        ctx.save_for_backward(x, weight)
        ctx.support = support
        if entries.dtype != bias.dtype and not isinstance(support, FullSupport):
            return support.inner_products(x, weight) + bias[support.indices]
        return entries.view_as(entries)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        x, weight = ctx.saved_tensors
        support: Support = ctx.support
        grad = grad.contiguous()
        grad_x = support.weighted_rows(grad, weight) if ctx.needs_input_grad[0] else None
        return grad_x, support.weighted_tokens(grad, x), support.totals(grad), None, None, None


class _Decode(torch.autograd.Function):
    """Codes to rows: the sum of the active latents' decoder rows, weighted by their values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, support: Support, read: Tensor) -> Tensor:
        weight = read  # as it is gathered; the gradient is that of weight
        ctx.save_for_backward(values, weight)
        ctx.support = support
        return support.weighted_rows(values, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, weight = ctx.saved_tensors
        support: Support = ctx.support
        grad = grad.contiguous().to(weight.dtype)
        grad_values = support.inner_products(grad, weight) if ctx.needs_input_grad[0] else None
        grad_weight = support.weighted_tokens(values, grad) if ctx.needs_input_grad[1] else None
        return grad_values, grad_weight, None, None


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
        return torch.addmm(bias, x, _rounded(weight).T)


def active_entries(x: Tensor, weight: Tensor, bias: Tensor, entries: Tensor, support: Support) -> Tensor:
    """The `entries` [A] of x W^T + b [B, N] in `support`, made differentiable in x, weight and bias."""
    read = (_rounded(x), _rounded(weight))
    return cast(Tensor, _Active.apply(x, weight, bias, entries, support, read))  # type: ignore[no-untyped-call]


def positive_means(x: Tensor, weight: Tensor, bias: Tensor, pre_activations: Tensor) -> Tensor:
    """Batch means [N] of relu(x W^T + b), given x W^T + b.

    Differentiable in x, weight and bias, at the price of up to two dense products.
    """
    return cast(Tensor, _PositiveMeans.apply(x, weight, bias, pre_activations))  # type: ignore[no-untyped-call]


def decode(values: Tensor, support: Support, weight: Tensor) -> Tensor:
    """Sum of the active latents' rows of weight [N, W], weighted by values [A]: [B, W]."""
    read = _rounded(weight)
    return cast(Tensor, _Decode.apply(values, weight, support, read))  # type: ignore[no-untyped-call]
