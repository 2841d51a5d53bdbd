"""Sums and products of the rows that active entries name, on a GPU: what `harness.sae.support` asks for.

Shape letters: B tokens, N latents, D width, K active latents per token, A active entries.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from harness.sae.gpu import COLUMNS, _cdiv, _kernels, _on, _power
from harness.sae.row_norms import RowNorms

PRODUCTS, TOKENS = 8, 4  # rows that a program reads at once
PIECE = 64  # tokens that one program adds up at most
WIDEST = 4 * COLUMNS  # rows that such a program has whole, and so their norms
SPLIT = 128  # columns, at least, of the parts in which a row may be read


class Entries:
    """The active entries of a batch, for kernels.

    indices: latents [A], token after token. starts: each token's first entry [B]. per_token: how many there are of
    each token, 0 if that differs. tokens: of each entry [A], needed where it differs.
    """

    def __init__(
        self, indices: Tensor, starts: Tensor, latents: int, per_token: int, tokens: Tensor | None
    ) -> None:
        self.indices = indices
        self.starts = starts
        self.latents = latents
        self.per_token = per_token
        self.tokens = indices if tokens is None else tokens
        self.even = tokens is None

    @cached_property
    def by_latent(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents in their order [A], their entries [A], and where in it each latent begins and ends: [N], [N].

        A radix sort takes a pass for every 8 bits.
        """
        few = torch.int16 if self.latents <= 2**15 else torch.int32
        ordered, order = torch.sort(self.indices.to(few), stable=True)
        starts, ends = torch.zeros(2, self.latents, dtype=torch.int32, device=order.device)
        if len(order):
            with _on(order):
                _kernels().gathers.bounds_by_latent[(_cdiv(len(order), 1024),)](
                    ordered, starts, ends, len(order), 1024, num_warps=4
                )
        return ordered, order, starts, ends

    def weighted_rows(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Sum over a token's active latents of value · weight row: values [A], weight [N, D] -> [B, D].

        bias [D]: what is added to each.
        """
        tokens, width = len(self.starts), weight.shape[1]
        sums = weight.new_empty(tokens, width, dtype=torch.float32)
        block = min(COLUMNS, _power(width))
        if sums.numel():
            with _on(weight):
                _kernels().gathers.weighted_rows[(tokens, _cdiv(width, block))](
                    self.indices, values, self.starts, weight, sums if bias is None else bias, sums, tokens,
                    len(self.indices), width, self.per_token, self.even, bias is not None, block, num_warps=1,
                )  # fmt: skip
        return sums

    def inner_products(self, rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Each token's row [B, D] times its active rows of weight [N, D], and the latent's bias [N]: [A]."""
        tokens, width = len(self.starts), weight.shape[1]
        products = rows.new_empty(len(self.indices), dtype=torch.float32)
        if len(self.indices):
            with _on(rows):
                _kernels().gathers.inner_products[(tokens,)](
                    self.indices, self.starts, rows, weight, products if bias is None else bias, products, tokens,
                    len(self.indices), width, self.per_token, self.even, bias is not None, PRODUCTS,
                    _columns(width), num_warps=1,
                )  # fmt: skip
        return products

    def weighted_tokens(self, values: Tensor, rows: Tensor, norms: RowNorms | None) -> tuple[Tensor, Tensor]:
        """Sums over a latent's active tokens: of value · token row, and of values.

        values [A], rows [B, D] -> [N, D], [N]. norms: where those of the first are to be put.
        """
        width, entries = rows.shape[1], len(self.indices)
        sums = rows.new_empty(self.latents, width, dtype=torch.float32)
        totals = sums.new_empty(self.latents)
        if not entries:
            return sums.zero_(), totals.zero_()
        ordered, order, starts, ends = self.by_latent
        block = min(WIDEST, _power(width))
        warps = max(1, block // COLUMNS)
        cuts, columns = _cdiv(entries, PIECE), _cdiv(width, block)
        pieces, piece_totals = sums.new_empty(2 * cuts, width), sums.new_empty(2 * cuts)
        squares, along, weight = (
            (totals, totals, sums) if norms is None else (norms.squares, norms.along, norms.weight)
        )
        kinds = (norms is not None and columns == 1, norms is not None and norms.across)
        gathers = _kernels().gathers
        with _on(rows):
            gathers.weighted_tokens[(2 * cuts + self.latents, columns)](
                order, ordered, starts, ends, self.tokens, values, rows, weight, pieces, piece_totals,
                sums, totals, squares, along, entries, width, self.per_token, cuts,
                self.even, *kinds, PIECE, TOKENS, block, num_warps=warps,
            )  # fmt: skip
            gathers.joined_tokens[(cuts, columns)](
                ordered, starts, ends, weight, pieces, piece_totals, sums, totals, squares, along, entries, width,
                *kinds, PIECE, block, num_warps=warps,
            )  # fmt: skip
        if norms is not None and columns == 1:
            norms.written(sums)
        return sums, totals

    def fired(self, values: Tensor) -> Tensor:
        """Number of tokens on which a latent's value is above 0: values [A] -> [N], float."""
        counts = torch.zeros(self.latents, dtype=torch.int32, device=values.device)
        if len(values):
            with _on(values):
                _kernels().gathers.firings[(_cdiv(len(values), 1024),)](
                    self.indices, values, counts, len(values), 1024, num_warps=4
                )
        return counts.float()


def _columns(width: int) -> int:
    """Of a row that are read at once: a power of two, which divides the width or covers it."""
    divisor = width & -width
    return min(divisor, 2 * SPLIT) if divisor >= SPLIT else min(COLUMNS, _power(width))
