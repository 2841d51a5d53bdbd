"""The numbers that change from step to step, on the device before they are needed.

Passing one number to a GPU costs the processor as much as launching a kernel, or a graph of a hundred kernels. So
the rates of many steps are copied at once, and each step's work, which may be a graph, finds its own by counting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

AHEAD = 128  # steps whose rates are copied at once


class StepNumbers:
    """Tokens before a step, and its rates.

    `tokens` [], int64: changed in place, by the step's own work.
    """

    def __init__(self, batch: int, rates: int, device: torch.device) -> None:
        """batch: tokens of a step. rates: how many it has."""
        self.tokens = torch.zeros((), dtype=torch.int64, device=device)
        self._batch = batch
        self._row = torch.zeros(1, dtype=torch.int64, device=device)  # of the step in the table
        self._table = torch.zeros(AHEAD, rates, device=device)
        self._next = 0  # the step that the device will count next
        self._end = 0  # the first step that is not in the table

    def prepare(self, step: int, rates: Callable[[int], Sequence[float]]) -> None:
        """Have the numbers of a step (0-based) on the device, before its work, also before that of a graph.

        rates: those of a step.
        """
        if step != self._next:  # a cell that was resumed
            self.tokens.fill_(step * self._batch)
            self._end = step
        if step >= self._end and self._table.shape[1]:
            table = torch.tensor([rates(at) for at in range(step, step + AHEAD)])
            if self._table.is_cuda:
                table = table.pin_memory()
            self._table.copy_(table, non_blocking=True)
            self._row.zero_()
            self._end = step + AHEAD
        self._next = step + 1

    def take_rates(self, into: Tensor) -> None:
        """Put the rates of this step into a tensor [rates], once in a step. Part of its work."""
        torch.index_select(self._table, 0, self._row, out=into[None])
        self._row += 1

    def count(self) -> None:
        """Go on to the tokens after this step. Part of its work."""
        self.tokens += self._batch
