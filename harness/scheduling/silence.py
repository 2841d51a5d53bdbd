"""Workers that hang, told from those that wait: by how long they have said nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from harness.scheduling.display import duration
from harness.scheduling.engine import Engine, Event

LONGEST_TURN = 1.0  # seconds that count between two times of listening
START = 30.0  # seconds, at least, until a new worker first speaks: it imports torch, on a machine that may be busy


class Silence:
    """Seconds since each slot was last heard, on a clock that stands still while nobody listens.

    A controller that was itself stopped (Ctrl-Z, a suspended machine) has not listened meanwhile: what its workers
    said is still to be read, and they may have been stopped with it. So a pause of its own counts as LONGEST_TURN.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._listened = 0.0  # seconds in all
        self._heard: dict[int, float] = {}  # what had been listened then

    def listened(self) -> None:
        """All that was said until now has been heard."""
        now = self._clock()
        self._listened += min(now - self._last, LONGEST_TURN)
        self._last = now

    def broken(self, slot: int) -> None:
        """A slot has spoken, or was just given work."""
        self._heard[slot] = self._listened

    def of(self, slot: int) -> float:
        return self._listened - self._heard[slot]


class Watch:
    """Kills workers that hang, and says when some wait for room on a disk. `say` takes lines for people."""

    def __init__(
        self,
        engine: Engine,
        patience: float,
        say: Callable[[str], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`patience`: seconds of silence after which a worker hangs. One that is slow speaks after every step."""
        self._engine = engine
        self._patience = patience
        self._say = say
        self._silence = Silence(clock)
        self._spoken: set[int] = set()  # slots whose workers have said something since they were started
        self._hung: set[int] = set()  # slots whose workers were killed, until their ends are known
        self._without_room: set[int] = set()  # slots whose workers wait for room

    def given_work(self, slot: int) -> None:
        self._silence.broken(slot)

    def heard(self, event: Event) -> None:
        self._silence.broken(event.slot)
        if event.message is None:
            self._hung.discard(event.slot)
            self._spoken.discard(event.slot)
        else:
            self._spoken.add(event.slot)
        waited = bool(self._without_room)
        if event.message is not None and "full" in event.message:
            self._without_room.add(event.slot)
            if not waited:
                self._say(f"the disk is full: training waits for room to write {event.message['full']}")
        else:
            self._without_room.discard(event.slot)
            if waited and not self._without_room:
                self._say("there is room on the disk again: training goes on")

    def end_hung(self, slots: Iterable[int]) -> None:
        """Kill the workers of those of `slots` that hang, once all that was said until now has been heard."""
        self._silence.listened()
        for slot in set(slots) - self._hung:
            silent = self._silence.of(slot)
            if silent > (self._patience if slot in self._spoken else max(self._patience, START)):
                self._hung.add(slot)
                self._say(f"worker {slot} has said nothing for {duration(silent)}: it hangs and is killed")
                self._engine.kill(slot)
