"""Activations as cells are trained on them: on a device, in the order that a recipe's seed gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.activations.store import ActivationStore
from harness.errors import UserError
from harness.study.recipe import Recipe
from harness.training.centring import Centring
from harness.training.metrics import HeldOut
from harness.training.stream import Batch, Order, Piece, WindowOrder
from harness.training.windows import Windows

MakeWindow = Callable[[int], Sequence[Tensor]]  # number -> inputs [tokens, width], and targets if there are any
OpenStream = Callable[[Path, torch.device], MakeWindow]  # from a streamed store's folder
FIRST = -1  # priority of a GPU's stream: before others, whose priority is 0


class Data:
    """A store on a device. Opened once for all cells of a worker: `open_data`.

    Training tokens are read in windows; those that a streamed store does not have on disk are made when they are
    needed, by what `open_stream` returns. It is called for the first of them only.

    centring and width are those of the inputs. target_width is None for an SAE, whose targets are its inputs: the
    same tensors, read once. hooks: where inputs and targets were captured.
    """

    def __init__(self, path: Path, device: torch.device, open_stream: OpenStream | None = None) -> None:
        self.device = device
        self._store = ActivationStore.open(path)
        self._open_stream = open_stream
        self._windows: Windows[int, Sequence[Any]] = Windows(self._window)
        self._orders: Windows[WindowOrder, Any] = Windows(self._order)
        self._one_reader = Lock()  # a cohort that ends does not wait for the batch that it reads ahead
        gpu = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if gpu else None  # type: ignore[no-untyped-call]
        # A language model's kernels are launched one by one, steps as graphs, several of which wait for the GPU.
        # It has work at any time if a kernel that has just been launched goes first.
        self._making = torch.cuda.Stream(device, FIRST) if gpu else None  # type: ignore[no-untyped-call]
        targets = self._store.targets
        self.centring = _centring(self._store, device)
        self.target_centring = self.centring if targets is None else _centring(targets, device)
        self.width = self._store.width
        self.target_width = None if targets is None else targets.width
        self.fingerprint = self._store.fingerprint
        self.hooks = self._store.manifest["hook"], None if targets is None else targets.manifest["hook"]
        x, target = self.centred(self._read("held_out", 0, self._store.tokens("held_out")))
        mean = self.target_centring.scaled_mean
        self.held_out = HeldOut(x, (targets or self._store).scale, target, mean=mean, features=self.features)

    def read(self, recipe: Recipe, step: int) -> Batch:
        """Activations [recipe.batch, width] of a step (0-based), on the device, as they are stored.

        Meant to be called for one step after the other: the window that follows is made while this one is used, if
        the recipe has steps that need it.
        """
        order = Order(recipe.batch, recipe.seed, self._store.tokens("train"), self._store.window)
        pieces = order.pieces(step)
        with self._one_reader:
            rows = self._joined([self._rows(piece) for piece in pieces])
            following, needed = order.next_window(step)
            kept = [pieces[-1].order, *([following] if needed < recipe.steps else [])]
            self._orders.keep(*kept)
            self._windows.keep(*dict.fromkeys(one.window for one in kept))
        return Batch(rows[0], rows[-1])

    def centred(self, rows: Batch, into: Batch | None = None) -> Batch:
        """What is trained on: activations in float32, centred and scaled; in the memory of `into`, if it is given.

        Else in memory of their own, not where numpy put them: a product's last bits can depend on the alignment.
        """
        x = self.centring.centre(rows.input, into and into.input)
        if rows.target is rows.input:
            return Batch(x, x)
        return Batch(x, self.target_centring.centre(rows.target, into and into.target))

    def training(self, tokens: int) -> Tensor:
        """The first `tokens` training inputs, centred and scaled; those of the first window if it has fewer."""
        first = min(self._store.window, self._store.tokens("train"))
        rows = self._put(self._store.read("train", 0, min(tokens, first)))
        return self.centring.centre(rows)

    def features(self) -> Tensor | None:
        """True features [held-out tokens, F]; None where they are not known."""
        features = self._store.features()
        return None if features is None else torch.from_numpy(features).to(self.device)

    def _read(self, split: str, start: int, stop: int) -> Batch:
        x = self._put(self._store.read(split, start, stop))
        targets = self._store.targets
        return Batch(x, x if targets is None else self._put(targets.read(split, start, stop)))

    def _window(self, number: int) -> Sequence[Any]:
        """A training window: inputs and, if there are any, targets; on a GPU there, else as arrays."""
        if self._store.has_window(number):
            stored = self._store.read_window(number)
            return stored if self._copies is None else [self._put(rows) for rows in stored]
        if self._making is None or self._copies is None:
            return [rows.numpy() for rows in self._stream(number)]
        with torch.cuda.stream(self._making):
            made = list(self._stream(number))
            self._making.synchronize()
        for rows in made:
            rows.record_stream(torch.cuda.default_stream(self.device))  # which batches are gathered on
        return made

    def _order(self, order: WindowOrder) -> Any:
        """The rows of a window in this order, where the window is: all of its batches' at once."""
        rows = order.rows()
        return rows if self._copies is None else self._put(rows)

    @cached_property
    def _stream(self) -> MakeWindow:
        """What makes the windows of a stream. Raises UserError where nothing can."""
        if self._open_stream is None:
            raise UserError(f"{self._store.path}: expected all activations on disk, found a stream of them")
        return self._open_stream(self._store.path, self.device)

    def _rows(self, piece: Piece) -> list[Any]:
        """Of inputs and targets, those of a batch that are in one window."""
        window, places = self._windows(piece.order.window), self._orders(piece.order)[piece.start : piece.stop]
        if self._copies is None:
            return [rows.take(places, axis=0) for rows in window]  # faster than rows[places]
        return [rows.index_select(0, places) for rows in window]

    def _joined(self, parts: Sequence[Sequence[Any]]) -> list[Tensor]:
        """Inputs and targets of a batch from those of its pieces.

        On a GPU in the stream that this thread and those that train have in common, so that nobody waits for them.
        """
        if self._copies is None:
            whole = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
            return [torch.from_numpy(rows) for rows in whole]
        return list(parts[0]) if len(parts) == 1 else [torch.cat(rows) for rows in zip(*parts, strict=True)]

    def _put(self, rows: NDArray[Any]) -> Tensor:
        """Rows on the device, ready to be used by any thread."""
        if self._copies is None:
            return torch.from_numpy(rows)
        pinned = torch.empty(rows.shape, dtype=getattr(torch, rows.dtype.name), pin_memory=True)
        pinned.numpy()[...] = rows  # which may be mapped, and not to be written
        with torch.cuda.stream(self._copies):  # beside the kernels of the step before
            there = pinned.to(self.device, non_blocking=True)
        return self._ready(there)

    def _ready(self, there: Tensor) -> Tensor:
        """What the stream of copies makes, when it is made, for the stream of this thread and that of batches."""
        assert self._copies is not None
        self._copies.synchronize()
        for stream in (torch.cuda.current_stream(self.device), torch.cuda.default_stream(self.device)):
            there.record_stream(stream)
        return there


def _centring(store: ActivationStore, device: torch.device) -> Centring:
    mean, std = torch.from_numpy(store.mean), torch.from_numpy(store.std)
    return Centring(mean, torch.tensor(store.scale), std).to(device)


class Batches:
    """The batches of cells that agree in all that decides them, from data that is opened when first wanted."""

    def __init__(self, data: Callable[[], Data], recipe: Recipe) -> None:
        """`recipe`: that of the longest of the cells."""
        self._data = data
        self._recipe = recipe
        self._place: Batch | None = None  # of batches on a GPU

    @property
    def steps(self) -> int:
        """How many there are."""
        return self._recipe.steps

    def read(self, step: int) -> Batch:
        """See `Data.read`."""
        return self._data().read(self._recipe, step)

    def centred(self, rows: Batch) -> Batch:
        """See `Data.centred`. On a GPU each batch takes the place of the one before, where graphs read it."""
        made = self._data().centred(rows, self._place)
        self._place = made if made.input.is_cuda else None
        return made


@lru_cache(maxsize=1)
def open_data(
    path: str, device: str, fingerprint: str | None = None, open_stream: OpenStream | None = None
) -> Data:
    """The store at `path`, as long as no other is asked for.

    fingerprint: that of the activations which are meant, where it matters. open_stream: see `Data`.
    Raises UserError if there is no store, or if it holds others: they may have been made again since.
    """
    data = Data(Path(path), torch.device(device), open_stream)
    if fingerprint not in (None, data.fingerprint):
        raise UserError(f"{path}: the activations are no longer those that this sweep began with; start it again")
    return data
