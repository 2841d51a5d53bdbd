"""Windows of a text, and which of them a latent fires in.

Shape letters: C contexts, S positions of a context, M windows, L tokens of a window, T kept positions of the text,
I width of an activation, n windows that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.embeddings import embeddings_of
from harness.interpretability.firings import Integers
from harness.interpretability.text import Text

NO_TOKEN = -1  # stands at the end of a window in which the context has ended
OF_A_BLOCK = 8  # windows, about: short documents stay together, so that few windows have text of both sides
BLOCKS = 64  # at least, where documents are short enough
FEWEST_BLOCKS = 16  # with fewer, one half of the text may be about other things than the other


@dataclass(frozen=True)
class Windows:
    """Windows of `length` tokens, one after another in their contexts.

    ids: `NO_TOKEN` where the context has ended. rows: of each token the row of its activations in the text, -1
    where it has none (as special tokens have). to_explain: whether an explanation may be made of the window; the
    others are judged. By document, so that no text is on both sides. embedding: directions of length 1; the cosine
    of two says how alike the windows are.
    """

    ids: NDArray[np.int64]  # [M, L]
    rows: NDArray[np.int64]  # [M, L]
    context: NDArray[np.int64]  # [M]
    start: NDArray[np.int64]  # [M], the first token's position in its context
    to_explain: NDArray[np.bool_]  # [M]
    embedding: NDArray[np.float32]  # [M, I]
    total: int  # T

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def length(self) -> int:
        return int(self.ids.shape[1])

    def strongest(self, tokens: Integers, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A latent's highest activation in every window [M], from the rows that it fires on and its values there.

        0 where it is silent.
        """
        windows = self._of_rows[tokens]
        inside = windows >= 0
        highest = np.zeros(len(self), np.float32)
        np.maximum.at(highest, windows[inside], values[inside])
        return highest

    def activations(
        self, tokens: Integers, values: NDArray[np.float32], windows: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """A latent's activations in some windows [n, L], from the rows it fires on, ascending, and its values."""
        rows = self.rows[windows]
        if not len(tokens):
            return np.zeros(rows.shape, np.float32)
        places = np.searchsorted(tokens, rows).clip(max=len(tokens) - 1)
        return np.where(tokens[places] == rows, values[places], np.float32(0))

    def with_token(self, token: int) -> NDArray[np.int64]:
        """The windows in which this token has activations, each once, ascending."""
        tokens, windows = self._by_token
        first, end = np.searchsorted(tokens, [token, token + 1])
        return np.unique(windows[first:end])

    @cached_property
    def _of_rows(self) -> NDArray[np.int32]:
        """The window that each row of the text is in, -1 for none: [T]."""
        found = np.full(self.total, -1, np.int32)
        windows, positions = np.nonzero(self.rows >= 0)
        found[self.rows[windows, positions]] = windows
        return found

    @cached_property
    def _by_token(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All tokens that have activations, ascending, and the window of each."""
        windows, positions = np.nonzero(self.rows >= 0)
        tokens = self.ids[windows, positions]
        order = np.argsort(tokens, kind="stable")
        return tokens[order], windows[order]


def windows_of(text: Text, length: int, seed: int) -> Windows:
    """The windows of a text; those of a random half of its documents are to explain.

    The first one starts with the first token of its context that is no padding. Windows are left out in which
    less than half of the positions have activations, since a latent is silent there for lack of text; and those
    with the same tokens as a window before them, or with documents of both halves, since an explanation could be
    judged on what it was made of.
    """
    contexts, positions = text.ids.shape
    length = min(length, positions)
    each = -(-positions // length)
    sides = _sides(text, length, seed)
    ids, rows, first = _without_padding(text)
    more = ((0, 0), (0, each * length - positions))
    ids, rows = (
        np.pad(part, more, constant_values=NO_TOKEN).reshape(contexts * each, length) for part in (ids, rows)
    )
    context = np.repeat(np.arange(contexts), each)
    start = np.tile(np.arange(each) * length, contexts) + first[context]
    there = rows >= 0
    explain = (sides[rows] & there).sum(1)  # tokens
    used = np.flatnonzero((2 * there.sum(1) >= length) & ((explain == 0) | (explain == there.sum(1))))
    used = used[np.sort(np.unique(ids[used], axis=0, return_index=True)[1])]
    ids, rows, context = ids[used], rows[used], context[used]
    embedding = embeddings_of(text.x, rows)
    return Windows(ids, rows, context, start[used], explain[used] > 0, embedding, len(text))


def _sides(text: Text, length: int, seed: int) -> NDArray[np.bool_]:
    """Whether an explanation may be made of a token: [T], of a random half of the blocks of documents.

    By context where documents are so long that there are too few of them.
    """
    size = min(OF_A_BLOCK * length, text.ids.size // BLOCKS)
    starts, last = [0], 0
    for start in np.flatnonzero(_begins(text)).tolist():
        if start - last >= size > 0:
            starts.append(last := start)
    if len(starts) < FEWEST_BLOCKS:
        starts = list(range(0, text.ids.size, text.ids.shape[1]))
    halves = np.random.default_rng([seed, 0]).permutation(len(starts)) < len(starts) // 2
    rows = text.rows.ravel()
    places = np.flatnonzero(rows >= 0)
    side = np.zeros(len(text), bool)
    side[rows[places]] = halves[np.searchsorted(starts, places, "right") - 1]
    return side


def _begins(text: Text) -> NDArray[np.bool_]:
    """Where a document begins, or may do so: [C * S]. A separator belongs to the one behind it.

    Without separators, or with padding, each context has a document of its own.
    """
    separator = text.tokenizer.eos_token_id
    begins = text.ids == separator if separator is not None else np.zeros(text.ids.shape, bool)
    if text.mask is not None:
        padded = ~text.mask.all(1)
        begins &= text.mask
        begins[:, 0] |= padded | np.roll(padded, 1)
    if separator is None:
        begins[:, 0] = True
    return begins.ravel()


def _without_padding(text: Text) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """ids and rows [C, S] with each context's first token in front and `NO_TOKEN` for padding; where it was."""
    if text.mask is None:
        return text.ids, text.rows, np.zeros(len(text.ids), np.int64)
    first = text.mask.argmax(1)
    places = (np.arange(text.ids.shape[1]) + first[:, None]) % text.ids.shape[1]
    ids = np.where(text.mask, text.ids, NO_TOKEN)
    return np.take_along_axis(ids, places, 1), np.take_along_axis(text.rows, places, 1), first
