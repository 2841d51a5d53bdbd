"""Finds workers that hang: those that have sent no message for a long time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from harness.engines.engine import Engine, Event
from harness.progress import duration

LONGEST_TURN = 1.0  # seconds that count, at most, between two calls of `listened`
START = 30.0  # seconds that a new worker has at least for its first message: it has to import torch


class IdleTime:
    """Seconds since the last message of each slot, on a clock that runs only while the controller listens.

    While a controller is itself stopped (Ctrl-Z, a suspended machine) it reads no messages, and its workers may be
    stopped, too. So any pause between two calls of `listened` counts as LONGEST_TURN at most.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._listened = 0.0  # seconds in total
        self._heard: dict[int, float] = {}  # seconds in total at its last message

    def listened(self) -> None:
        """All messages until now have been read."""
        now = self._clock()
        self._listened += min(now - self._last, LONGEST_TURN)
        self._last = now

    def broken(self, slot: int) -> None:
        """A slot has sent a message, or was just given work."""
        self._heard[slot] = self._listened

    def of(self, slot: int) -> float:
        return self._listened - self._heard[slot]


class HungWorkers:
    """Kills workers that hang, and says when some wait for a full disk. say: prints a line for the user."""

    def __init__(
        self,
        engine: Engine,
        patience: float,
        say: Callable[[str], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """patience: seconds without a message after which a worker hangs; slow ones send one after every step."""
        self._engine = engine
        self._patience = patience
        self._say = say
        self._idle = IdleTime(clock)
        self._spoken: set[int] = set()  # slots whose workers have sent a message since they were started
        self._hung: set[int] = set()  # slots whose workers were killed and have not ended yet
        self._without_room: set[int] = set()  # slots whose workers wait for space on a disk

    def work_started(self, slot: int) -> None:
        self._idle.broken(slot)

    def heard(self, event: Event) -> None:
        self._idle.broken(event.slot)
        if event.message is None:
            self._hung.discard(event.slot)
            self._spoken.discard(event.slot)
        else:
            self._spoken.add(event.slot)
        waited = bool(self._without_room)
        if event.message is not None and "full" in event.message:
            self._without_room.add(event.slot)
            if not waited:
                self._say(f"the disk is full: training waits for space to write {event.message['full']}")
        else:
            self._without_room.discard(event.slot)
            if waited and not self._without_room:
                self._say("there is space on the disk again: training goes on")

    def end_hung(self, slots: Iterable[int]) -> None:
        """Kill the hanging workers of `slots`, given that all messages until now have been read."""
        self._idle.listened()
        for slot in set(slots) - self._hung:
            silent = self._idle.of(slot)
            if silent > (self._patience if slot in self._spoken else max(self._patience, START)):
                self._hung.add(slot)
                self._say(f"worker {slot} has sent no message for {duration(silent)}: it hangs and is killed")
                self._engine.kill(slot)
