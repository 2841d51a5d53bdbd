"""What the controller sends to a worker. Without torch: the controller does not import it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.evaluation.measurements import Measurement
from harness.study.curve import POINTS


@dataclass(frozen=True)
class Job:
    """Cells to train together, and how to do so on this machine. They agree in batch size and seed.

    Cells that are already trained are measured.
    """

    cells: Mapping[str, Mapping[str, Any]]  # the cell's folder -> its recipe
    activations: str
    device: str
    threads: int
    checkpoint_seconds: float | None  # between two; None: see `harness.study.checkpoint_times`
    micro_batches: int = 1  # into which each batch is split
    pruned_by: str | None = None  # see CellFolder
    fingerprint: str | None = None  # of the activations with which the sweep started
    points: int = POINTS  # of the curves of cells that start
    measurements: Sequence[Measurement] = ()  # those that every cell must have
    limit: int | None = None  # bytes that its worker may take of a GPU; None: whatever there is

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Job:
        record = json.loads(line)
        return cls(**{**record, "measurements": [Measurement(**one) for one in record["measurements"]]})
