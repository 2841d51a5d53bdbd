"""Packs or pads the documents of a stream into contexts, a block of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.activations.encoding import Encode, adds_bos, encoder
from harness.activations.text_spec import Batch, ContextSettings, Documents, Raise

if TYPE_CHECKING:
    from harness.activations.tokens import Ids


class Start(NamedTuple):
    """Where a context starts: a batch of documents, one of its documents, and a token of that."""

    batch: Any  # a position of `Documents`
    document: int
    token: int


class Block(NamedTuple):
    """Contexts one after another: ids, which are no padding (None: all), which are kept [contexts, context].

    start: where the context of a given number starts; for the number of contexts, where the next block does.
    """

    ids: Ids
    mask: NDArray[np.bool_] | None
    kept: NDArray[np.bool_]
    start: Callable[[int], Start]


@dataclass(frozen=True)
class Layout:
    """What a context looks like. `bos` and `separator` are None where there is none."""

    encode: Encode
    context: int
    pack: bool
    bos: int | None
    separator: int | None
    padding: int
    pad_left: bool
    left_out: Ids  # tokens whose positions are not kept
    skip_first: int

    @property
    def room(self) -> int:
        """Tokens of documents in a context."""
        return self.context - (self.bos is not None)

    def block(self, text: Ids, lengths: NDArray[np.int64] | None, start: Callable[[int], Start]) -> Block:
        """Add BOS and padding to `text` [contexts, room], of which only `lengths` tokens are text (None: all)."""
        ids = np.empty((len(text), self.context), np.int64)
        ids[:, self.context - self.room :] = text
        if self.bos is not None:
            ids[:, 0] = self.bos
        mask = None
        if lengths is not None:
            used = lengths[:, None] + (self.context - self.room)
            mask = np.arange(self.context) < used
            ids[~mask] = self.padding
            if self.pad_left:
                places = (np.arange(self.context) + used) % self.context
                ids, mask = np.take_along_axis(ids, places, 1), np.take_along_axis(mask, places, 1)
        kept = ~np.isin(ids, self.left_out)
        if mask is None:
            kept[:, : self.skip_first] = False
        else:
            kept &= mask & (np.cumsum(mask, 1) > self.skip_first)
        return Block(ids, mask, kept, start)


def layout_of(tokenizer: Any, settings: ContextSettings, error: Raise) -> Layout:
    """The layout that the settings ask for. Raises UserError if the tokenizer lacks a token for it."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if settings.pack and eos is None:
        message = "expected false: the tokenizer has no EOS token to stand between documents"
        raise error(("activations", "pack"), message)
    if settings.bos == "every_context" and bos is None:
        raise error(("activations", "bos"), "expected auto or never: the tokenizer has no BOS token")
    with_bos = settings.bos == "every_context" or (settings.bos == "auto" and adds_bos(tokenizer))
    if settings.skip_first >= settings.context - with_bos * settings.skip_special:
        message = f"expected less than the context of {settings.context}, got {settings.skip_first}"
        raise error(("activations", "skip_first"), message)
    padding = next((token for token in (tokenizer.pad_token_id, eos, bos) if token is not None), 0)
    return Layout(
        encode=encoder(tokenizer),
        context=settings.context,
        pack=settings.pack,
        bos=bos if with_bos else None,
        separator=eos,
        padding=padding,
        pad_left=settings.padding == "left",
        left_out=np.array(tokenizer.all_special_ids if settings.skip_special else [], np.int64),
        skip_first=settings.skip_first,
    )


def context_blocks(documents: Documents, start: Start, layout: Layout) -> Iterator[Block]:
    """The contexts of a text from the context on that starts at `start`.

    Documents without text or tokens are passed over. Packed, a separator stands between two documents, except
    where one ends with a context: no context starts with a separator. The last context of the text is padded.
    """
    make = _packed if layout.pack else _one_document_each
    return make(_encoded(documents, start, layout), layout)


class _Encoded(NamedTuple):
    """The token ids of a document from some token on, and where they start."""

    start: Start
    ids: Ids


def _encoded(documents: Documents, start: Start, layout: Layout) -> Iterator[list[_Encoded]]:
    """The documents of each batch that have tokens."""
    passed_over, token = start.document, start.token
    for batch in documents.read(start.batch):
        numbers = [n for n, text in enumerate(batch.texts) if text and n >= passed_over]
        encoded = []
        for number, ids in zip(numbers, _ids(batch, numbers, layout), strict=True):
            first = token if number == passed_over else 0
            if len(ids) > first:
                encoded.append(_Encoded(Start(batch.position, number, first), ids[first:]))
        if len(batch.texts) > passed_over:
            token = 0
        passed_over = max(0, passed_over - len(batch.texts))
        yield encoded


def _ids(batch: Batch, numbers: list[int], layout: Layout) -> list[Ids]:
    return layout.encode([text for n in numbers if (text := batch.texts[n])]) if numbers else []


def _packed(batches: Iterator[list[_Encoded]], layout: Layout) -> Iterator[Block]:
    """Documents without gaps."""
    room = layout.room
    separator = np.array([layout.separator], np.int64)
    rest, rest_start = np.empty(0, np.int64), None
    for batch in batches:
        if not batch:
            continue
        pieces, filled = [rest], len(rest)
        places, starts = [], []  # of the documents
        if rest_start is not None and filled:
            places, starts = [0], [rest_start]
        for document in batch:
            if filled % room:
                pieces.append(separator)
                filled += 1
            places.append(filled)
            starts.append(document.start)
            pieces.append(document.ids)
            filled += len(document.ids)
        flat = np.concatenate(pieces)
        whole = filled // room
        start = _Starts(np.array(places), starts, room).start
        yield layout.block(flat[: whole * room].reshape(whole, room), None, start)
        rest, rest_start = flat[whole * room :], start(whole)
    if len(rest) and rest_start is not None:
        text = np.pad(rest, (0, room - len(rest)))[None]
        end = rest_start
        yield layout.block(text, np.array([len(rest)]), lambda _: end)


class _Starts(NamedTuple):
    """Where the contexts of packed documents start."""

    places: NDArray[np.int64]  # of the documents, in tokens from the first context's start on
    starts: list[Start]
    room: int

    def start(self, context: int) -> Start:
        place = context * self.room
        index = int(np.searchsorted(self.places, place, "right")) - 1
        start = self.starts[index]
        return start._replace(token=start.token + place - int(self.places[index]))


def _one_document_each(batches: Iterator[list[_Encoded]], layout: Layout) -> Iterator[Block]:
    """The first tokens of each document."""
    for batch in batches:
        if not batch:
            continue
        text = np.zeros((len(batch), layout.room), np.int64)
        lengths = np.array([min(len(document.ids), layout.room) for document in batch])
        for row, document, length in zip(text, batch, lengths, strict=True):
            row[:length] = document.ids[:length]
        starts = [document.start for document in batch]
        starts.append(starts[-1]._replace(document=starts[-1].document + 1))
        yield layout.block(text, lengths, starts.__getitem__)
