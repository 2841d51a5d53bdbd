"""The order in which a cell sees the activations: a function of the seed and the step alone.

Cells with one seed see the same batches in the same order (common random numbers), so that differences between
arms are paired; and a resumed cell needs nothing but its step number to go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Batch(NamedTuple):
    """Tokens to train on: what is seen of them [batch, width], and what is to be reconstructed.

    For an SAE, both are one tensor.
    """

    input: Tensor
    target: Tensor


class Piece(NamedTuple):
    """Rows of one window, in the order in which a batch has them."""

    window: int
    rows: NDArray[np.int64]  # places in the window, from 0


@dataclass(frozen=True)
class Order:
    """Which of `tokens` training tokens are in which batch.

    An epoch goes through the windows one after the other, a window being `window` tokens that follow each other in
    the store (the last one may be shorter), each of them permuted. Batches of `batch` tokens are cut from this
    sequence, across windows, too; what does not fill a batch at the end is left out.

    Raises ValueError when there are not enough tokens for one batch.
    """

    batch: int
    seed: int
    tokens: int
    window: int

    def __post_init__(self) -> None:
        if self.batches == 0:
            raise ValueError(
                f"a batch of {self.batch} tokens needs as many activations, the store has {self.tokens}"
            )

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return self.tokens // self.batch

    def pieces(self, step: int) -> list[Piece]:
        """The batch at `step` (0-based): its tokens, window by window."""
        epoch, place = divmod(step, self.batches)
        start, stop = place * self.batch, (place + 1) * self.batch
        return [
            Piece(window, self._rows(epoch, window, start, stop))
            for window in range(start // self.window, self._last_window(place) + 1)
        ]

    def _rows(self, epoch: int, window: int, start: int, stop: int) -> NDArray[np.int64]:
        """Those of a window that are at the places [start, stop) of an epoch's sequence."""
        first = window * self.window
        order = _permutation(min(self.window, self.tokens - first), self.seed, epoch, window)
        return order[max(0, start - first) : stop - first]

    def next_window(self, step: int) -> tuple[int, int]:
        """The window that is needed next, behind those of the batch at `step`, and the step that needs it."""
        epoch, place = divmod(step, self.batches)
        window = self._last_window(place) + 1
        if (needed := window * self.window // self.batch) < self.batches:
            return window, epoch * self.batches + needed
        return 0, (epoch + 1) * self.batches

    def _last_window(self, place: int) -> int:
        """The window of the last token in the batch at this place of an epoch."""
        return ((place + 1) * self.batch - 1) // self.window


@lru_cache(maxsize=4)
def _permutation(tokens: int, seed: int, epoch: int, window: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, window]).permutation(tokens)
