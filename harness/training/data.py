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
from harness.training.stream import batch_rows


class Data:
    """A store on a device. Opened once for all cells of a worker: `open_data`."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.device = device
        self._store = ActivationStore.open(path)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        mean, scale = torch.from_numpy(self._store.mean), torch.tensor(self._store.scale)
        self.centring = Centring(mean.to(device), scale.to(device))
        self.width = self._store.width
        self.fingerprint = self._store.fingerprint
        self.mean = self.centring.scaled_mean  # [width], of the training split
        held_out = self._store.read("held_out", 0, self._store.tokens("held_out"))
        self.held_out = HeldOut(self.centred(self._put(held_out)), self._store.scale, self.features)

    def read(self, recipe: Recipe, step: int) -> Tensor:
        """Activations [recipe.batch, width] of a step (0-based), on the device, as they are stored."""
        rows = batch_rows(step, recipe.batch, self._store.tokens("train"), recipe.seed)
        return self._put(self._store.read("train", *rows))

    def centred(self, rows: Tensor) -> Tensor:
        """What is trained on: activations in float32, centred and scaled.

        In memory of their own, not where numpy put them: a product's last bits can depend on the alignment.
        """
        return self.centring.centre(rows)

    def training(self, tokens: int) -> Tensor:
        """The first `tokens` training activations of the store, centred and scaled; all if there are fewer."""
        return self.centred(self._put(self._store.read("train", 0, min(tokens, self._store.tokens("train")))))

    def features(self) -> Tensor | None:
        """True features [held-out tokens, F]; None where they are not known."""
        features = self._store.features()
        return None if features is None else torch.from_numpy(features).to(self.device)

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


class Batches:
    """The batches of cells that agree in all that decides them, from data that is opened when first wanted."""

    def __init__(self, data: Callable[[], Data], recipe: Recipe) -> None:
        """`recipe`: that of any of the cells."""
        self._data = data
        self._recipe = recipe

    def read(self, step: int) -> Tensor:
        """See `Data.read`."""
        return self._data().read(self._recipe, step)

    def centred(self, rows: Tensor) -> Tensor:
        """See `Data.centred`."""
        return self._data().centred(rows)


@lru_cache(maxsize=1)
def open_data(path: str, device: str, fingerprint: str | None = None) -> Data:
    """The store at `path`, as long as no other is asked for.

    fingerprint: that of the activations which are meant, where it matters. Raises UserError if there is no store,
    or if it holds others: somebody may have made them again since.
    """
    data = Data(Path(path), torch.device(device))
    if fingerprint not in (None, data.fingerprint):
        raise UserError(f"{path}: the activations are no longer those that this sweep began with; start it again")
    return data
