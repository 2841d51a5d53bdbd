"""How long the rows of a gradient are, from whoever has them at hand while making it: nobody reads them again."""

from __future__ import annotations

import torch
from torch import Tensor


class RowNorms:
    """Of the gradient [N, W] of a weight, which may have this as its `row_norms` (`harness.training.fused_adam`).

    across: the weight's rows have unit norm, and what lies along them does not count. squares: sums of the squares
    of each row [N]. along: each row's part along the weight's [N], where it does not count.
    """

    def __init__(self, weight: Tensor, *, across: bool) -> None:
        self.weight = weight.detach()
        self.across = across
        self.squares, self.along = torch.empty(2, len(weight), device=weight.device)
        self._of: tuple[int, int] | None = None

    def written(self, gradient: Tensor) -> None:
        """To be said by who has filled them: whose they are."""
        self._of = (gradient.data_ptr(), gradient._version)

    def are_of(self, gradient: Tensor) -> bool:
        """Whether they are of this gradient as it is now: nothing was added to it. They are taken once."""
        of, self._of = self._of, None
        return of == (gradient.data_ptr(), gradient._version)
