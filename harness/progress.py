"""Shows the progress of long work: a live bar on a terminal, otherwise plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

PLAIN_INTERVAL = 10.0  # seconds between two plain lines
MINUTE, HOUR, DAY, YEAR = 60, 3600, 86_400, 31_557_600  # seconds


def track(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield `items` and show how many of `total` are done."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield from _plain(items, total, what)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total, description=what)


def _plain(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    last = time.monotonic()
    for done, item in enumerate(items):
        yield item
        if time.monotonic() - last >= PLAIN_INTERVAL:
            last = time.monotonic()
            print(f"{what}: {done + 1} of {total}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """`45s`, `3m05s`, `2h10m`; from two days on `3.2 days`, from two years on `11.2 years`."""
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < 2 * DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    if whole < 2 * YEAR:
        return f"{whole / DAY:.3g} days" if whole < 100 * DAY else f"{whole / DAY:.0f} days"
    return f"{whole / YEAR:,.1f} years"
