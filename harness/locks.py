"""Kernel locks on files. The kernel releases a lock when the process that holds it ends, for whatever reason."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from harness.files import retry_while_disk_is_full


@contextmanager
def exclusive(path: Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold the kernel lock on `path` within the block, if it is free. Yields whether it was taken.

    patience: seconds to keep trying, since `is_held` takes the lock for a moment.
    """
    deadline = time.monotonic() + patience
    descriptor = retry_while_disk_is_full(path, partial(_open, path))
    try:
        while not (taken := _take(descriptor, fcntl.LOCK_EX)) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield taken
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on `path`. Writes nothing, so it works on a read-only disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def this_process() -> str:
    """This process as described to others while it holds a lock."""
    return f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}"


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
