"""Windows of a text, and which of them a latent fires in.

Shape letters: M windows, L tokens of a window, T kept positions of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.text import Text


@dataclass(frozen=True)
class Windows:
    """Windows of `length` tokens, one after another in their contexts; what is left of a context is in none.

    rows: of each token the row of its activations in the text, -1 where it has none (as special tokens have).
    to_explain: whether an explanation may be made of the window; the others are judged. By context, so that no
    text is on both sides.
    """

    ids: NDArray[np.int64]  # [M, L]
    rows: NDArray[np.int64]  # [M, L]
    context: NDArray[np.int64]  # [M]
    start: NDArray[np.int64]  # [M], the first token's position in its context
    to_explain: NDArray[np.bool_]  # [M]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def length(self) -> int:
        return int(self.ids.shape[1])

    def activations(
        self, tokens: NDArray[np.int64], values: NDArray[np.float32], total: int
    ) -> NDArray[np.float32]:
        """A latent's activations in every window [M, L], from the rows it fires on, its values, and T."""
        dense = np.zeros(total + 1, np.float32)  # the last is that of positions without a row
        dense[tokens] = values
        return dense[self.rows]


def windows_of(text: Text, length: int, seed: int) -> Windows:
    """The windows of a text; those of a random half of its contexts are to explain."""
    contexts, positions = text.ids.shape
    length = min(length, positions)
    each = positions // length
    cut = slice(0, each * length)
    ids, rows = (part[:, cut].reshape(contexts * each, length) for part in (text.ids, text.rows))
    context = np.repeat(np.arange(contexts), each)
    start = np.tile(np.arange(each) * length, contexts)
    first = np.random.default_rng([seed, 0]).permutation(contexts) < contexts // 2
    used = (rows >= 0).any(1)
    return Windows(ids[used], rows[used], context[used], start[used], first[context[used]])
