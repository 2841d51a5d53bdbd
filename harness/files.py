"""Atomic writes, waiting while a disk is full, and reading files that may be damaged."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, TypeVar

from harness.backoff import backoff

FULL = (errno.ENOSPC, errno.EDQUOT)
LONGEST_PAUSE = 15.0  # seconds between two tries
SAY = 0.5  # seconds between two messages that the disk is full

Result = TypeVar("Result")


def write_atomically(path: Path, *content: bytes, wait: bool = True) -> None:
    """Write a file that is either as before or complete, whenever the process or the machine dies.

    Makes its folder if there is none. content: its parts, one behind the other. wait: for space, if the disk is
    full; otherwise that raises OSError.
    """
    write = partial(_write, path, content)
    retry_while_disk_is_full(path, write) if wait else write()


def write_json(path: Path, data: Any, *, wait: bool = True) -> None:
    """Write `data` as indented JSON, as `write_atomically` does. Raises ValueError if a number is not finite."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, f"{text}\n".encode(), wait=wait)


def write_json_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one record per line, as `write_atomically` does."""
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in records).encode())


def _write(path: Path, content: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.tmp")
    try:
        with beside.open("wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)  # to free its space
        raise
    beside.replace(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Sync a folder: before that, a power cut may undo a rename in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems sync no folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append(file: IO[str], line: str) -> None:
    """Add a line to a file and sync it. Waits while the disk is full."""
    try:
        file.write(line)
    except OSError as reason:  # the rest is still in the buffer
        if reason.errno not in FULL:
            raise
    retry_while_disk_is_full(Path(file.name), partial(_sync, file))


def _sync(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())


def read_record(path: Path, keys: Iterable[str] = ()) -> dict[str, Any] | None:
    """The JSON object in a file. None if there is no file, or if it is damaged, for which a line is printed.

    keys: keys that the object must have.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        record = None
    if isinstance(record, dict) and all(key in record for key in keys):
        return record
    print_once(f"{path.absolute()}: damaged; ignored")
    return None


@cache
def print_once(line: str) -> None:
    """Print a line to standard error, unless this process has printed it before."""
    with suppress(OSError):  # standard error may be a file on a full disk
        print(line, file=sys.stderr, flush=True)


def _print_full_disk(path: Path) -> None:
    print_once(f"{path}: the disk is full; waiting for space")


# Called every half second with the path that waits for space.
when_full: ContextVar[Callable[[Path], Any]] = ContextVar("when_full", default=_print_full_disk)


def retry_while_disk_is_full(path: Path, write: Callable[[], Result]) -> Result:
    """Call `write`, which writes `path`, and repeat that while the disk is full."""
    pauses = backoff(LONGEST_PAUSE)
    while True:
        try:
            return write()
        except OSError as reason:
            if reason.errno not in FULL:
                raise
        until = time.monotonic() + next(pauses)
        while (left := until - time.monotonic()) > 0:
            when_full.get()(path)
            time.sleep(min(left, SAY))
