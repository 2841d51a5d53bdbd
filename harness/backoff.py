"""How long to wait before something that may work later is tried again."""

from __future__ import annotations

from collections.abc import Iterator

FIRST = 0.5  # seconds


def backoff(longest: float) -> Iterator[float]:
    """Seconds before each next try: each pause is twice as long as the one before, up to `longest`."""
    pause = min(FIRST, longest)
    while True:
        yield pause
        pause = min(2 * pause, longest)
