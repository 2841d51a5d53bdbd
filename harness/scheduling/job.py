"""What the controller tells a worker. No torch here: the controller starts without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """Cells to train in lockstep, and how to on this machine. All have one batch size and one seed."""

    cells: Mapping[str, Mapping[str, Any]]  # folder, named after the cell -> recipe
    activations: str
    device: str
    threads: int
    checkpoint_seconds: float
    micro_batches: int = 1  # that a batch is trained on in
    pruned_by: str | None = None  # the study's, see CellFolder
    fingerprint: str | None = None  # of the activations that the sweep began with

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"
