"""The interface to the machines on which workers run.

`Pool` is this machine; `RayPool` is a Ray cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from harness.workers.job import Job


@dataclass(frozen=True)
class Options:
    """How to run on this machine; not part of a cell's identity."""

    workers: int
    threads: int  # per worker
    devices: tuple[str, ...]  # slots use them in turn
    checkpoint_seconds: float | None  # see `Job`
    patience_seconds: float  # of listening, after which a worker without any message counts as hung
    cohort: int | None = None  # most cells that a worker trains together


@dataclass(frozen=True)
class Event:
    """A message of a worker, or its end (`message` is None)."""

    slot: int
    message: dict[str, Any] | None
    exit_code: int | None = None  # None if it is unknown, because the machine died
    out_of_memory: bool = False  # whether the kernel killed it for that


class Engine(Protocol):
    """Slots; each has a worker process while it has work."""

    def free_bytes(self, slot: int) -> int | None:
        """Bytes for the cells of a slot; None while no machine has a place for it."""

    def submit(self, slot: int, job: Job) -> None:
        """Give a free slot its next cells."""

    def wait(self, seconds: float) -> list[Event]:
        """Messages of the workers; returns at the first ones, or after this time."""

    def kill(self, slot: int) -> None:
        """Kill the worker of a slot; its end is reported as an event."""

    def stop(self, grace: float) -> None:
        """Have all workers save checkpoints and end; kill those that have not ended after `grace` seconds."""
