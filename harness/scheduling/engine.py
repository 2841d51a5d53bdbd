"""Where workers run: what a sweep asks of the machines that it is given.

`Pool` is this machine; `RayPool` the machines of a Ray cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from harness.scheduling.job import Job


@dataclass(frozen=True)
class Event:
    """A worker's message, or its end (`message` is None)."""

    slot: int
    message: dict[str, Any] | None
    exit_code: int | None = None  # None where nobody can know, since its machine died
    out_of_memory: bool = False  # whether the kernel ended it for that


class Engine(Protocol):
    """Slots, each with a worker process while it has work."""

    def room(self, slot: int) -> int | None:
        """Bytes for the cells of a slot; None while it has no place on any machine."""

    def submit(self, slot: int, job: Job) -> None:
        """Give a free slot its next cells."""

    def wait(self, seconds: float) -> list[Event]:
        """What the workers said within this time; returns as soon as one has said something."""

    def kill(self, slot: int) -> None:
        """End the worker of a slot at once; that it has ended is an event."""

    def stop(self, grace: float) -> None:
        """Ask all workers to checkpoint and end; kill those that have not after `grace` seconds."""
