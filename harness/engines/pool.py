"""Worker processes on this machine: one per slot, restarted when it has ended."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.engines.engine import Event
from harness.engines.free_memory import Share, oom_kills
from harness.files import retry_while_disk_is_full
from harness.workers.job import Job

# By default glibc returns freed memory to the kernel and gets it back at every step; keeping it is faster. One
# heap for all threads: in one of its own, the thread that makes a stream's activations would keep room for good.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_ARENA_MAX": "1"}


class Pool:
    """An engine with one slot per entry of `shares`."""

    def __init__(self, shares: Sequence[Share], threads: int, log: Path) -> None:
        self._shares = shares
        self._environment = {**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(threads)}
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._workers: list[subprocess.Popen[bytes] | None] = [None] * len(shares)
        self._unread = [b""] * len(shares)
        self._oom_kills = oom_kills()
        self._hung: set[int] = set()  # slots whose workers `kill` has killed
        for slot in range(len(shares)):
            self._start(slot)  # a worker takes seconds to start

    def free_bytes(self, slot: int) -> int:
        return self._shares[slot].cells

    def submit(self, slot: int, job: Job) -> None:
        worker = self._workers[slot] or self._start(slot)
        assert worker.stdin is not None
        try:
            worker.stdin.write(replace(job, limit=self._shares[slot].limit).to_line().encode())
            worker.stdin.flush()
        except BrokenPipeError:
            pass  # the worker has ended: that is an event, after which its cells are handed out again

    def _start(self, slot: int) -> subprocess.Popen[bytes]:
        with retry_while_disk_is_full(self._log, partial(self._log.open, "ab")) as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "harness.workers.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # only the controller handles a Ctrl-C on the terminal
            )
        assert worker.stdout is not None
        os.set_blocking(worker.stdout.fileno(), False)
        self._selector.register(worker.stdout, selectors.EVENT_READ, slot)
        self._workers[slot] = worker
        self._unread[slot] = b""
        return worker

    def wait(self, seconds: float) -> list[Event]:
        events: list[Event] = []
        for key, _ in self._selector.select(seconds):
            events += self._read(key.data)
        return events

    def _read(self, slot: int) -> list[Event]:
        worker = self._workers[slot]
        assert worker is not None
        assert worker.stdout is not None
        data = worker.stdout.read()
        if data is None:
            return []
        *lines, self._unread[slot] = (self._unread[slot] + data).split(b"\n")
        events = [Event(slot, json.loads(line)) for line in lines]
        if not data:
            self._selector.unregister(worker.stdout)
            self._workers[slot] = None
            events.append(self._end(slot, worker.wait()))
        return events

    def _end(self, slot: int, exit_code: int) -> Event:
        """The end of a worker: out of memory if `kill` did not kill it and the kernel's count rose."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        killed = exit_code == -signal.SIGKILL and slot not in self._hung
        self._hung.discard(slot)
        return Event(slot, None, exit_code, killed and self._oom_kills > before)

    def kill(self, slot: int) -> None:
        if (worker := self._workers[slot]) is not None:
            self._hung.add(slot)
            worker.kill()

    def stop(self, grace: float) -> None:
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.terminate()
            if worker.stdin is not None:
                with suppress(BrokenPipeError):  # it has ended, and never read its last job
                    worker.stdin.close()
        deadline = time.monotonic() + grace  # for all of them together
        while any(self._workers) and (left := deadline - time.monotonic()) > 0:
            self.wait(left)  # also reads their messages: a worker whose pipe is full would not end
        for worker in workers:
            worker.kill()
            worker.wait()
