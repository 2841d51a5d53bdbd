"""How long workers have been silent, on a clock that stands still while nobody listens."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST_TURN = 1.0  # seconds that count between two times of listening


class Silence:
    """Seconds since each slot was last heard.

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
