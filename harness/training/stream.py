"""The order in which a cell sees the activations: a function of the seed and the step alone.

Cells with one seed see the same batches in the same order (common random numbers), so that differences between
arms are paired; and a resumed cell needs nothing but its step number to go on.
"""

from __future__ import annotations

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


def batch_rows(step: int, batch: int, tokens: int, seed: int) -> tuple[int, int]:
    """First row and the row after the last one of the batch at `step` (0-based) in a shuffled store.

    Each epoch goes through all whole batches in an order of its own; `tokens` rows are in the store.
    Raises ValueError when it does not fill one batch.
    """
    batches = tokens // batch
    if batches == 0:
        raise ValueError(f"a batch of {batch} tokens needs as many activations, the store has {tokens}")
    epoch, place = divmod(step, batches)
    start = int(_order(batches, seed, epoch)[place]) * batch
    return start, start + batch


@lru_cache(maxsize=4)
def _order(batches: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(batches)
