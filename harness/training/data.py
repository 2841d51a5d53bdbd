"""Activations as cells are trained on them: on a device, in the order that a recipe's seed gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.activations.store import ActivationStore
from harness.errors import UserError
from harness.study.recipe import Recipe
from harness.training.centring import Centring
from harness.training.metrics import HeldOut
from harness.training.stream import Batch, batch_rows


class Data:
    """A store on a device. Opened once for all cells of a worker: `open_data`.

    centring, width and mean are those of the inputs. target_width and target_mean are None for an SAE, whose
    targets are its inputs: the same tensors, read once.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.device = device
        self._store = ActivationStore.open(path)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        targets = self._store.targets
        self.centring = _centring(self._store, device)
        self.target_centring = self.centring if targets is None else _centring(targets, device)
        self.width = self._store.width
        self.target_width = None if targets is None else targets.width
        self.fingerprint = self._store.fingerprint
        self.mean = self.centring.scaled_mean  # [width], of the training split
        self.target_mean = None if targets is None else self.target_centring.scaled_mean
        x, target = self.centred(self._read("held_out", 0, self._store.tokens("held_out")))
        self.held_out = HeldOut(x, (targets or self._store).scale, target, features=self.features)

    def read(self, recipe: Recipe, step: int) -> Batch:
        """Activations [recipe.batch, width] of a step (0-based), on the device, as they are stored."""
        return self._read("train", *batch_rows(step, recipe.batch, self._store.tokens("train"), recipe.seed))

    def centred(self, rows: Batch) -> Batch:
        """What is trained on: activations in float32, centred and scaled.

        In memory of their own, not where numpy put them: a product's last bits can depend on the alignment.
        """
        x = self.centring.centre(rows.input)
        return Batch(x, x if rows.target is rows.input else self.target_centring.centre(rows.target))

    def training(self, tokens: int) -> Tensor:
        """The first `tokens` training inputs of the store, centred and scaled; all if there are fewer."""
        rows = self._put(self._store.read("train", 0, min(tokens, self._store.tokens("train"))))
        return self.centring.centre(rows)

    def features(self) -> Tensor | None:
        """True features [held-out tokens, F]; None where they are not known."""
        features = self._store.features()
        return None if features is None else torch.from_numpy(features).to(self.device)

    def _read(self, split: str, start: int, stop: int) -> Batch:
        x = self._put(self._store.read(split, start, stop))
        targets = self._store.targets
        return Batch(x, x if targets is None else self._put(targets.read(split, start, stop)))

    def _put(self, rows: NDArray[Any]) -> Tensor:
        """Rows on the device, ready to be used by any thread."""
        x = torch.from_numpy(rows)
        if self._copies is None:
            return x
        with torch.cuda.stream(self._copies):  # beside the kernels of the step before
            there = x.pin_memory().to(self.device, non_blocking=True)
        self._copies.synchronize()
        there.record_stream(torch.cuda.default_stream(self.device))
        return there


def _centring(store: ActivationStore, device: torch.device) -> Centring:
    return Centring(torch.from_numpy(store.mean).to(device), torch.tensor(store.scale).to(device))


class Batches:
    """The batches of cells that agree in all that decides them, from data that is opened when first wanted."""

    def __init__(self, data: Callable[[], Data], recipe: Recipe) -> None:
        """`recipe`: that of any of the cells."""
        self._data = data
        self._recipe = recipe

    def read(self, step: int) -> Batch:
        """See `Data.read`."""
        return self._data().read(self._recipe, step)

    def centred(self, rows: Batch) -> Batch:
        """See `Data.centred`."""
        return self._data().centred(rows)


@lru_cache(maxsize=1)
def open_data(path: str, device: str, fingerprint: str | None = None) -> Data:
    """The store at `path`, as long as no other is asked for.

    fingerprint: that of the activations which are meant, where it matters. Raises UserError if there is no store,
    or if it holds others: they may have been made again since.
    """
    data = Data(Path(path), torch.device(device))
    if fingerprint not in (None, data.fingerprint):
        raise UserError(f"{path}: the activations are no longer those that this sweep began with; start it again")
    return data
