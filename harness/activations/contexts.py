"""Contexts of token ids, the input of a language model, in windows of a fixed number of kept tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.activations.context_blocks import Block, Layout, Start, context_blocks, layout_of
from harness.activations.encoding import tokenizer_digest
from harness.activations.text import local_files, open_documents
from harness.activations.text_spec import ContextSettings, Raise, TextSpec, key_error
from harness.activations.window_positions import KnownPositions

if TYPE_CHECKING:
    from harness.activations.documents import Split
    from harness.activations.tokens import Ids


class WindowOfContexts(NamedTuple):
    """The contexts with the kept tokens of one window, in the order of the text.

    ids: [contexts, context] of int64. mask: which are no padding [contexts, context]; None where all are.
    kept: the positions that are the window's [contexts, context]. The first and the last context may also have
    tokens of the windows before and after, which are not kept here.
    """

    ids: Ids
    mask: NDArray[np.bool_] | None
    kept: NDArray[np.bool_]


class WindowStart(NamedTuple):
    """Where a window starts: at the start of a context, of which the windows before have kept some tokens."""

    context: Start
    kept_before: int


class ContextReader:
    """The contexts of one split of a text, window by window, in any order.

    A window is the same whichever were read before it. Reading the windows one after another reads the text
    once; otherwise reading starts at the last known position before the window, and the text in between is
    tokenised and passed over.

    text: resolved (`harness.activations.text.resolve`). tokenizer: one of `transformers`. positions: a file to
    keep the positions of windows in, for later readers; one of another text, tokenizer or settings is replaced.
    error: makes the exception for a key of the source file, as `Source.error` does.

    Raises UserError where the tokenizer lacks a token that the settings need, and while reading if the text is too
    short or cannot be read.
    """

    def __init__(
        self,
        text: TextSpec,
        tokenizer: Any,
        settings: ContextSettings,
        split: Split,
        *,
        positions: Path | None = None,
        error: Raise = key_error,
    ) -> None:
        self.split = split
        self.tokens = settings.tokens if split == "train" else settings.held_out_tokens
        self.window_tokens = settings.window
        self._layout: Layout = layout_of(tokenizer, settings, error)
        self._documents = open_documents(text, split, error)
        self._error = error
        self._known = KnownPositions(positions, split, identity(text, tokenizer, settings))
        self._known.add(0, WindowStart(Start(None, 0, 0), 0))
        self._stream: _Stream | None = None  # stands at the end of the window read last

    def __len__(self) -> int:
        """The number of windows."""
        return -(-self.tokens // self.window_tokens)

    def window(self, index: int) -> WindowOfContexts:
        """The contexts of a window. Raises IndexError if there is no such window."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        stream = self._stream_before(index)
        self._stream = None  # should reading fail, the stream stands nowhere
        while stream.next_window < index:
            self._take(stream)
        window = self._take(stream)
        self._stream = stream
        return window

    def _stream_before(self, index: int) -> _Stream:
        """A stream that stands at the start of the window, or of one before it."""
        nearest, position = self._known.before(index)
        if self._stream is not None and nearest <= self._stream.next_window <= index:
            return self._stream
        context, kept_before = position
        blocks = context_blocks(self._documents, Start(*context), self._layout)
        return _Stream(blocks, nearest, kept_before)

    def _take(self, stream: _Stream) -> WindowOfContexts:
        done = stream.next_window * self.window_tokens
        wanted = min(self.window_tokens, self.tokens - done)
        parts = stream.take(wanted)
        missing = wanted - sum(int(part.kept.sum()) for part in parts)
        if missing:
            key = "tokens" if self.split == "train" else "held_out_tokens"
            found = done + wanted - missing
            message = f"expected at most {found:,}, the tokens of the {self.split} text, got {self.tokens:,}"
            message += "" if found else "; no document of it has text"
            raise self._error(("activations", key), message)
        if stream.next_window < len(self):
            self._known.add(stream.next_window, stream.position())
        return _joined(parts)


class _Stream:
    """Contexts from some position on, taken window by window."""

    def __init__(self, blocks: Iterator[Block], next_window: int, kept_before: int) -> None:
        self.next_window = next_window
        self._blocks = blocks
        self._block: Block | None = None
        self._at = 0  # contexts of the block that are done with
        self._kept_before = kept_before  # kept tokens of the next context that belong to windows before

    def position(self) -> WindowStart:
        """Where the next window starts."""
        assert self._block is not None
        return WindowStart(self._block.start(self._at), self._kept_before)

    def take(self, tokens: int) -> list[WindowOfContexts]:
        """The contexts of the next kept `tokens`, in parts; of fewer if the text ends before."""
        parts: list[WindowOfContexts] = []
        while tokens:
            if self._block is None or self._at == len(self._block.ids):
                block = next((block for block in self._blocks if len(block.ids)), None)
                if block is None:
                    break
                self._block, self._at = block, 0
            part = self._take_from(self._block, tokens)
            tokens -= int(part.kept.sum())
            parts.append(part)
        self.next_window += 1
        return parts

    def _take_from(self, block: Block, tokens: int) -> WindowOfContexts:
        here = slice(self._at, None)
        kept = block.kept[here]
        ends = np.cumsum(kept.sum(1)) - self._kept_before  # kept tokens up to the end of each context
        whole = int(np.searchsorted(ends, tokens, "right"))  # contexts that end with or before the window
        contexts = min(whole + 1, len(kept))
        rank = np.cumsum(kept[:contexts]).reshape(contexts, -1) - self._kept_before
        mine = kept[:contexts] & (rank > 0) & (rank <= tokens)
        self._kept_before = (
            tokens - int(ends[whole - 1] if whole else -self._kept_before) if whole < len(kept) else 0
        )
        self._at += whole
        used = mine.any(1)  # the others need no forward pass
        mask = None if block.mask is None else block.mask[here][:contexts][used]
        return WindowOfContexts(block.ids[here][:contexts][used], mask, mine[used])


def _joined(parts: list[WindowOfContexts]) -> WindowOfContexts:
    ids, masks, kept = zip(*parts, strict=True)
    if all(mask is None or mask.all() for mask in masks):
        mask = None
    else:
        mask = np.concatenate(
            [np.ones(i.shape, bool) if m is None else m for i, m in zip(ids, masks, strict=True)]
        )
    return WindowOfContexts(np.concatenate(ids), mask, np.concatenate(kept))


def identity(text: TextSpec, tokenizer: Any, settings: ContextSettings) -> str:
    """Tells apart whatever has other positions of windows; cheap: files by size and time of change."""
    asked = settings.model_dump(include=set(ContextSettings.model_fields) - {"tokens", "held_out_tokens"})
    files = [file for part in local_files(text) for file in part]
    states = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    reader = version("datasets") if text.dataset is not None else None  # whose state the positions are
    return json.dumps([text.model_dump(), asked, tokenizer_digest(tokenizer), states, reader])
