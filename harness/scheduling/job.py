"""What the controller tells a worker. No torch here: the controller starts without it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """A cell, and how to train it on this machine."""

    folder: str
    activations: str
    recipe: dict[str, Any]
    device: str
    threads: int
    checkpoint_seconds: float

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"
