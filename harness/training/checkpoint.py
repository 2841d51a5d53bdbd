"""Checkpoints that a crash cannot spoil: written beside, synced, renamed; believed only if the checksum fits."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from harness.files import write_atomically

KEEP = 2  # the newest, and the one before in case the newest does not survive


class Checkpoints:
    """The checkpoints of one cell, in a folder of its own: `<step>.safetensors`, ending in its own SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Write a checkpoint and drop all but the newest two."""
        content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        write_atomically(self.folder / f"{step:09}.safetensors", content + hashlib.sha256(content).digest())
        for old in self._paths()[KEEP:]:
            old.unlink()

    def load(self, before: float = math.inf) -> dict[str, Tensor] | None:
        """The newest checkpoint of a step below `before` that is whole, or None.

        Also removes what a kill has left of one that was being written.
        """
        for torn in self.folder.glob("*.tmp"):
            torn.unlink()
        for path in (path for path in self._paths() if int(path.stem) < before):
            content = path.read_bytes()
            body, digest = content[:-32], content[-32:]
            if hashlib.sha256(body).digest() == digest:
                try:
                    return load(body)
                except (SafetensorError, json.JSONDecodeError):
                    continue
        return None

    def clear(self) -> None:
        """Remove them all: the cell has its result."""
        for path in self._paths():
            path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"), reverse=True)
