"""What the controller sends to a worker. Without torch: the controller does not import it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """Cells to train together, and how to do so on this machine. They agree in batch size and seed."""

    cells: Mapping[str, Mapping[str, Any]]  # the cell's folder -> its recipe
    activations: str
    device: str
    threads: int
    checkpoint_seconds: float
    micro_batches: int = 1  # into which each batch is split
    pruned_by: str | None = None  # see CellFolder
    fingerprint: str | None = None  # of the activations with which the sweep started

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"
