"""A command in slices, between which others have their turns: both are then timed in the same minutes.

What runs beside the machine's other tenants is faster now and slower then, by more than what a harness adds to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SLICE = 8.0  # seconds: the first step of each finds the caches cold


def in_slices(command: Sequence[str], environment: Mapping[str, str], between: Callable[[], Any]) -> float:
    """Seconds that a command and its children run until it ends, stopped after each slice to call `between`.

    Raises CalledProcessError, the command's output behind it, if it fails.
    """
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    seconds = 0.0
    try:
        while process.returncode is None:
            start = time.perf_counter()
            with suppress(subprocess.TimeoutExpired):
                process.wait(SLICE)
            seconds += time.perf_counter() - start
            if process.returncode is None:
                stopped = _signal(process.pid, signal.SIGSTOP)
                between()
                for pid in reversed(stopped):
                    _kill(pid, signal.SIGCONT)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds


def _signal(pid: int, what: signal.Signals) -> list[int]:
    """Signal a process, then its children and theirs, so that none can start another meanwhile; who was."""
    _kill(pid, what)
    return [pid, *(one for child in _children(pid) for one in _signal(child, what))]


def _kill(pid: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.kill(pid, what)


def _children(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return []
    return [int(child) for children in lists for child in children.split()]
