"""The windows of training tokens that are in memory: this one and the next."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Key = TypeVar("Key")
Window = TypeVar("Window")


class Windows(Generic[Key, Window]):
    """Windows by their numbers, or what belongs to them, as `make` makes them in a thread of its own.

    It keeps those that it was last told to keep, two as a rule: that thread makes one while another is used.
    """

    def __init__(self, make: Callable[[Key], Window]) -> None:
        self._make = make
        self._thread = ThreadPoolExecutor(1, "window")
        self._kept: dict[Key, Future[Window]] = {}

    def __call__(self, number: Key) -> Window:
        """That of this number; waits for it. Raises what `make` raised for it."""
        if number not in self._kept:
            self.keep(number)
        try:
            return self._kept[number].result()
        except Exception:
            del self._kept[number]  # another attempt may succeed
            raise

    def keep(self, *numbers: Key) -> None:
        """Forget all others, then begin to make those of these that are not there."""
        for number in self._kept.keys() - set(numbers):
            self._kept.pop(number).cancel()
        for number in numbers:
            if number not in self._kept:
                self._kept[number] = self._thread.submit(self._make, number)
