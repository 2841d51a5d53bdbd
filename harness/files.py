"""Files that are whole or not there, on disks that may be full for a while."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

FULL = (errno.ENOSPC, errno.EDQUOT)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between two tries, each pause twice as long as the one before


def write_atomically(path: Path, content: bytes) -> None:
    """The file is either as before or complete, whenever the process or the machine dies.

    Waits for room where the disk is full, and says so on standard error.
    """
    _once_there_is_room(path, partial(_write, path, content))


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.name}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)  # others may need the room
        raise
    beside.replace(path)


def append(file: IO[str], line: str) -> None:
    """Add a line to a file that is buffered by lines; where the disk is full, as soon as there is room."""
    try:
        file.write(line)
    except OSError as reason:
        if reason.errno not in FULL:
            raise
        _once_there_is_room(Path(file.name), file.flush)  # what has not been written is still in the buffer


def _once_there_is_room(path: Path, write: Callable[[], Any]) -> None:
    pause = FIRST_PAUSE
    while True:
        try:
            write()
            return
        except OSError as reason:
            if reason.errno not in FULL:
                raise
        if pause == FIRST_PAUSE:
            with suppress(OSError):  # standard error may be a file on that disk
                print(f"{path}: the disk is full; waiting for room", file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
