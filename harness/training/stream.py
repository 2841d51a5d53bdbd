"""The order in which a cell sees the activations: a function of the seed and the step alone.

Cells with one seed see the same batches in the same order (common random numbers), so that differences between
arms are paired; and a resumed cell needs nothing but its step number to go on.
"""

from __future__ import annotations

from dataclasses import dataclass
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


class WindowOrder(NamedTuple):
    """In which order an epoch goes through a window of so many tokens."""

    tokens: int
    seed: int
    epoch: int
    window: int

    def rows(self) -> NDArray[np.int64]:
        """Places in the window, from 0: [tokens]."""
        return np.random.default_rng([self.seed, self.epoch, self.window]).permutation(self.tokens)


class Piece(NamedTuple):
    """Rows of one window, in the order in which a batch has them."""

    order: WindowOrder
    start: int  # of those in this order, from 0
    stop: int


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
            self._piece(epoch, window, start, stop)
            for window in range(start // self.window, self._last_window(place) + 1)
        ]

    def _piece(self, epoch: int, window: int, start: int, stop: int) -> Piece:
        """Those of a window that are at the places [start, stop) of an epoch's sequence."""
        order, first = self._window_order(epoch, window), window * self.window
        return Piece(order, max(0, start - first), min(order.tokens, stop - first))

    def _window_order(self, epoch: int, window: int) -> WindowOrder:
        return WindowOrder(min(self.window, self.tokens - window * self.window), self.seed, epoch, window)

    def next_window(self, step: int) -> tuple[WindowOrder, int]:
        """The window that is needed next, behind those of the batch at `step`, and the step that needs it."""
        epoch, place = divmod(step, self.batches)
        window = self._last_window(place) + 1
        if (needed := window * self.window // self.batch) < self.batches:
            return self._window_order(epoch, window), epoch * self.batches + needed
        return self._window_order(epoch + 1, 0), (epoch + 1) * self.batches

    def _last_window(self, place: int) -> int:
        """The window of the last token in the batch at this place of an epoch."""
        return ((place + 1) * self.batch - 1) // self.window
