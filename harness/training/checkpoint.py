"""Checkpoints that a crash cannot spoil: written beside, synced, renamed; believed only if the checksum fits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.files import write_atomically

KEEP = 2  # the newest, and the one before in case the newest does not survive


class Checkpoints:
    """The checkpoints of one cell, in a folder of its own: `<step>.safetensors`, ending in its own SHA-256.

    about: tensors that each of them holds besides, so that it can be read alone.
    """

    def __init__(self, folder: Path, about: Mapping[str, Tensor] = MappingProxyType({})) -> None:
        self.folder = folder
        self.about = about

    def save(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint and drop all but the newest two."""
        all_tensors = {**tensors, **self.about}
        content = save({name: t.detach().cpu().contiguous() for name, t in all_tensors.items()})
        write_atomically(self.folder / f"{step:09}.safetensors", content, hashlib.sha256(content).digest())
        for old in self._paths()[KEEP:]:
            old.unlink()

    def load(
        self, usable: Callable[[int, Mapping[str, Tensor]], bool] = lambda step, tensors: True
    ) -> dict[str, Tensor] | None:
        """The newest checkpoint that is whole and `usable`, given its step and its tensors, or None.

        Also removes what a kill has left of one that was being written.
        """
        for torn in self.folder.glob("*.tmp"):
            torn.unlink()
        for path in self._paths():
            tensors = read_checkpoint(path)
            if tensors is not None and usable(int(path.stem), tensors):
                return tensors
        return None

    def clear(self) -> None:
        """Remove them all: the cell has its result."""
        for path in self._paths():
            path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"), reverse=True)


def read_checkpoint(path: Path) -> dict[str, Tensor] | None:
    """The tensors of one checkpoint, or None where it is damaged."""
    content = path.read_bytes()
    body, digest = content[:-32], content[-32:]
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        return load(body)
    except (SafetensorError, json.JSONDecodeError):
        return None
