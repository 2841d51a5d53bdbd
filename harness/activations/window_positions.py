"""Remembers where windows of a text start, in memory and in a file that several processes may share."""

from __future__ import annotations

import json
import os
from bisect import bisect_right, insort
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.files import write_atomically


class KnownPositions:
    """The positions of the windows of one split.

    file: JSON Lines, the first of which is `identity`; then a line per window that any reader has come by. A file
    with another identity is replaced, an incomplete line is passed over. None, or a file that cannot be
    written: in memory alone.
    """

    def __init__(self, file: Path | None, split: str, identity: str) -> None:
        self._file = _prepared(file, identity)
        self._split = split
        self._positions: dict[int, Any] = {}
        self._indexes: list[int] = []  # sorted
        self._read = 0  # bytes of the file

    def before(self, index: int) -> tuple[int, Any]:
        """The last window up to `index` whose position is known, and the position, as JSON has it."""
        if index not in self._positions:
            self._refresh()
        nearest = self._indexes[bisect_right(self._indexes, index) - 1]
        return nearest, self._positions[nearest]

    def add(self, index: int, position: Any) -> None:
        """Remember the position of a window, which must be JSON."""
        if index not in self._positions:
            self._refresh()
        if index in self._positions:
            return
        self._remember(index, position)
        if self._file is not None:
            record = json.dumps({"split": self._split, "window": index, "position": position}).encode()
            # In one call, so that lines of several processes do not mix. There may be the start of a line before
            # it, from a process that was killed.
            with suppress(OSError):  # of a full disk, say: reading goes on without it
                descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND)
                try:
                    os.write(descriptor, b"\n" + record + b"\n")
                finally:
                    os.close(descriptor)

    def _remember(self, index: int, position: Any) -> None:
        if index not in self._positions:
            insort(self._indexes, index)
        self._positions[index] = position

    def _refresh(self) -> None:
        """Read what others have added to the file."""
        if self._file is None:
            return
        added = b""
        with suppress(OSError), self._file.open("rb") as file:
            file.seek(self._read)
            added = file.read()
        self._read += (whole := added.rfind(b"\n") + 1)
        for line in added[:whole].splitlines():
            with suppress(ValueError, KeyError, TypeError):
                record = json.loads(line)
                if record["split"] == self._split:
                    self._remember(record["window"], record["position"])


def _prepared(file: Path | None, identity: str) -> Path | None:
    """The file, with this identity; None if it cannot be written."""
    if file is None or _is_of(file, identity):
        return file
    with suppress(OSError):  # which another process may have done at the same moment
        write_atomically(file, json.dumps({"identity": identity}).encode() + b"\n", wait=False)
    return file if _is_of(file, identity) else None


def _is_of(file: Path, identity: str) -> bool:
    try:
        with file.open("rb") as opened:
            return bool(json.loads(opened.readline())["identity"] == identity)
    except (OSError, ValueError, KeyError, TypeError):
        return False
