"""Standard output and standard error that may be lost without ending the program."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# A full disk, a closed pipe (`| head`), a closed terminal.
LOST = (errno.ENOSPC, errno.EDQUOT, errno.EPIPE, errno.EIO)


class _Dispensable:
    """A stream whose writes may be lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as reason:
            if reason.errno not in LOST:
                raise
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as reason:
            if reason.errno not in LOST:
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def dispensable_output() -> Iterator[None]:
    """Within the block, output that cannot be written to standard output or standard error is dropped."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Dispensable(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        for stream in streams:
            _give_up(stream)


def _give_up(stream: TextIO) -> None:
    """If it still cannot be written to, redirect it to /dev/null: otherwise Python exits with an error."""
    try:
        stream.flush()
    except OSError as reason:
        if reason.errno not in LOST:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
