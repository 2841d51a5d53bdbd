"""Which entries of a batch a sparse layer computes on, and sums over them in a fixed order.

By kernels of our own or by `embedding_bag`; on a GPU, too, nothing is added atomically, so that the same input
gives the same bits. How many entries are active may differ from token to token. Nothing here waits for a GPU.

Shape letters: B tokens, N latents, A active entries of the batch, K active latents per token where all have as
many, D width of the rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from harness.sae import gpu, native
from harness.sae.gpu.active import Entries
from harness.sae.row_norms import RowNorms


class Support:
    """Which entries of a batch's [B, N] are computed on, token after token, and the same ordered by latent.

    indices: latents [A]. starts: each token's first entry [B]. per_token: entries for each token where all have as
    many, else 0.
    """

    def __init__(self, indices: Tensor, starts: Tensor, latents: int, per_token: int = 0) -> None:
        self.indices = indices
        self.starts = starts
        self.latents = latents
        self.per_token = per_token

    @classmethod
    def of_rows(cls, rows: Tensor, latents: int) -> Support:
        """As many latents for each token: rows [B, K]."""
        starts = torch.arange(rows.shape[0], device=rows.device) * rows.shape[1]
        return cls(rows.flatten(), starts, latents, rows.shape[1])

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
        ordered, order = torch.sort(self.indices.int(), stable=True)  # on GPUs, int32 sorts twice as fast
        return order, self.tokens[order], _firsts(ordered, self.latents)

    @cached_property
    def _entries(self) -> Entries:
        """As a GPU's kernels take them."""
        tokens = None if self.per_token else self.tokens
        return Entries(self.indices, self.starts, self.latents, self.per_token, tokens)

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

    def weighted_rows(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Sum over a token's active latents of value · weight row: values [A], weight [N, W] -> [B, W].

        bias [W]: what is added to each.
        """
        if for_kernels(values, weight) and (bias is None or for_kernels(bias)):
            return self._entries.weighted_rows(values, weight, bias)
        sums = embedding_bag(self.indices, weight, self.starts, per_sample_weights=values, mode="sum")
        return sums if bias is None else sums + bias

    def weighted_tokens(self, values: Tensor, rows: Tensor, norms: RowNorms | None = None) -> Tensor:
        """Sum over a latent's active tokens of value · token row: values [A], rows [B, W] -> [N, W].

        norms: where its norms may be put.
        """
        if gpu.usable(values, rows):
            return self._entries.weighted_tokens(values, rows, norms)[0]
        order, tokens, starts = self._by_latent
        if native.usable(values, rows):
            return native.weighted_tokens(values, rows, order, tokens, starts)
        return embedding_bag(tokens, rows, starts, per_sample_weights=values[order], mode="sum")

    def weighted_tokens_and_totals(
        self, values: Tensor, rows: Tensor, norms: RowNorms | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both at once: [N, W] and [N]."""
        if gpu.usable(values, rows):
            return self._entries.weighted_tokens(values, rows, norms)
        return self.weighted_tokens(values, rows), self.totals(values)

    def totals(self, values: Tensor) -> Tensor:
        """Sum of a latent's values over the tokens: values [A] -> [N]."""
        if not gpu.holds(values):
            return values.new_zeros(self.latents).index_add_(0, self.indices, values)
        order, _, starts = self._by_latent  # index_add_ adds in any order on a GPU
        return embedding_bag(order, values.unsqueeze(1), starts, mode="sum").squeeze(1)

    def fired(self, values: Tensor) -> Tensor:
        """Number of tokens on which a latent's value is above 0: values [A] -> [N], float; without gradient."""
        if gpu.usable(values):
            return self._entries.fired(values)
        return self.totals((values > 0).to(values.dtype))

    def inner_products(self, rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Each token's row times its active weight rows: rows [B, W], weight [N, W] -> [A].

        bias [N]: of each latent, to be added.
        """
        rows = rows.contiguous()
        if gpu.usable(rows, weight):
            return self._entries.inner_products(rows, weight, bias)
        if native.usable(rows, weight):
            sums = native.inner_products(rows, weight, self.indices, self.starts)
        else:
            sums = products(rows, weight, self.indices, self.starts, self.tokens)
        return sums if bias is None else sums + bias[self.indices]


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

    def weighted_rows(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        sums = (values @ weight.to(values.dtype)).to(torch.promote_types(values.dtype, torch.float32))
        return sums if bias is None else sums + bias

    def weighted_tokens(self, values: Tensor, rows: Tensor, norms: RowNorms | None = None) -> Tensor:
        return (values.T @ rows.to(values.dtype)).to(torch.promote_types(values.dtype, torch.float32))

    def weighted_tokens_and_totals(
        self, values: Tensor, rows: Tensor, norms: RowNorms | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.weighted_tokens(values, rows), self.totals(values)

    def fired(self, values: Tensor) -> Tensor:
        if gpu.usable(values):
            return gpu.jump_counts(values, torch.zeros(self.latents, device=values.device))[0]
        return super().fired(values)

    def totals(self, values: Tensor) -> Tensor:
        return values.sum(0, dtype=torch.promote_types(values.dtype, torch.float32))

    def inner_products(self, rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        products = rows @ weight.to(rows.dtype).T
        return products if bias is None else products + bias


def for_kernels(*tensors: Tensor) -> bool:
    """Whether a GPU's kernels take these, whose gradient is not recorded: autograd sees no kernel."""
    recorded = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return gpu.usable(*tensors) and not recorded


def _firsts(ordered: Tensor, count: int) -> Tensor:
    """Where each of 0, 1, ..., count - 1 begins among such numbers in ascending order: [A] -> [count]."""
    return torch.searchsorted(ordered, torch.arange(count, dtype=ordered.dtype, device=ordered.device))


def products(rows: Tensor, weight: Tensor, indices: Tensor, starts: Tensor, tokens: Tensor) -> Tensor:
    """The operator behind embedding_bag's gradient for its per-sample weights.

    torch has no other name for it, and a gather with a batched product takes about ten times as long on a CPU.
    """
    product = torch.ops.aten._embedding_bag_per_sample_weights_backward(rows, weight, indices, starts, tokens, 0)
    return cast(Tensor, product)
