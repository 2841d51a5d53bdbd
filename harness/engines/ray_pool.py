"""Workers on the machines of a Ray cluster: each slot is an actor with a pool of one worker.

Ray places the actors, reports when one is dead, and carries the messages. It restarts nothing by itself: when an
actor is known to be dead, and its worker with it, that is an event like the end of any worker, and its cells are
handed out again.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from harness.engines.engine import Event, Options
from harness.engines.free_memory import free_bytes, share
from harness.engines.pool import Pool
from harness.errors import UserError
from harness.study.identity import Roots, other_code, reached
from harness.workers.job import Job

CONNECT_SECONDS = 3.0
EXCHANGE_SECONDS = 0.5  # for which an actor waits for messages of its worker
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # the first bytes of a gRPC connection


def connect(address: str) -> dict[str, float]:
    """Join the cluster at HOST:PORT, this machine's (`auto`), or a new one for this sweep alone (`local`).

    Returns its resources (`CPU`, `GPU`, ...). Raises UserError if there is none.
    """
    if address not in ("auto", "local") and not _answers(address):
        raise UserError(f"--address: expected HOST:PORT of a Ray cluster, auto or local; no cluster at {address}")
    here = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **here)
    except ConnectionError:
        raise UserError("--address: expected a Ray cluster on this machine; start one: ray start --head") from None
    except (RayError, OSError, RuntimeError, ValueError) as reason:
        raise UserError(f"--address: {address}: {str(reason).splitlines()[0]}") from None
    return dict(ray.cluster_resources())


def _answers(address: str) -> bool:
    """Whether a gRPC server answers there. Ray itself would wait for minutes, and then exit."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), CONNECT_SECONDS) as server:
            server.settimeout(CONNECT_SECONDS)
            server.sendall(HTTP2_HELLO)
            return server.recv(9)[3:4] == b"\4"  # a settings frame, which every such server sends first
    except (OSError, ValueError, OverflowError):
        return False


class Host:
    """The actor of a slot."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._turn = 0
        self._answer: list[Event] = []

    def set_up(
        self, folder: Path, log: Path, marker: str, roots: Roots, code: Mapping[str, str], device: str, shared: int
    ) -> int:
        """Go to the sweep's folder; bytes for the cells of this slot.

        roots, code: what trains the sweep's cells, as the machine that runs it has it.
        Raises UserError if this machine does not see that folder, or has other code.
        """
        here = socket.gethostname()
        try:
            os.chdir(folder)
            same = _marker(log) == marker
        except OSError:
            same = False
        if not same:
            raise UserError(
                f"{here}: expected to see {folder} of the machine that runs the sweep, shared with all"
            )
        if other := other_code(roots, code):
            expected = "expected the training and measuring code of the machine that runs the sweep"
            raise UserError(f"{here}: {expected}; here {other}")
        mine = share(device, free_bytes(device), _workers_here(), shared)
        self._pool = Pool([mine], self._threads, log)
        return mine.cells

    def turn(self, number: int, jobs: list[Job]) -> list[Event]:
        """Pass on jobs and wait for messages of the worker. A repeated turn only returns its answer again."""
        if number > self._turn:
            for job in jobs:
                self._pool.submit(0, job)
            self._answer = self._pool.wait(EXCHANGE_SECONDS)
            self._turn = number
        return self._answer

    def stop(self, grace: float) -> None:
        self._pool.stop(grace)


def _workers_here() -> int:
    """How many actors like this one share its GPU, or else its machine."""
    mine: dict[str, float] = ray.get_runtime_context().get_assigned_resources()
    if gpu := mine.get("GPU"):
        return int(1 / gpu)
    node = ray.get_runtime_context().get_node_id()
    (cpus,) = (float(n["Resources"].get("CPU", 1.0)) for n in ray.nodes() if n["NodeID"] == node)
    return max(1, int(cpus / mine.get("CPU", 1.0)))


@dataclass
class _Slot:
    host: Any
    free_bytes: int | None = None  # known once Ray has placed it
    jobs: list[Job] = field(default_factory=list)  # to be passed on with its next turn
    turns: int = 0
    asked: tuple[int, list[Job]] | None = None  # a turn without an answer yet
    pending: Any = None  # Ray's reference to the answer

    def ask(self, setting: tuple[Any, ...]) -> None:
        """Ask for its memory once, then for one turn after the other."""
        if self.free_bytes is None:
            self.pending = self.host.set_up.remote(*setting)
            return
        if self.asked is None:
            self.turns += 1
            self.asked, self.jobs = (self.turns, self.jobs), []
        self.pending = self.host.turn.remote(*self.asked)


class RayPool:
    """An engine: slots on any machine of the cluster that has resources for one, also if it joins later."""

    def __init__(self, options: Options, log: Path, shared: int, roots: Roots) -> None:
        self._threads = options.threads
        self._resources: dict[str, float] = {"num_cpus": options.threads}
        if options.devices[0] != "cpu":
            gpus = ray.cluster_resources()["GPU"]
            self._resources = {"num_cpus": 0, "num_gpus": 1 / math.ceil(options.workers / gpus)}
        code = reached(roots)
        self._setting = (Path.cwd(), log, _marker(log), roots, code, options.devices[0], shared)
        self._slots = [self._place() for _ in range(options.workers)]

    def _place(self) -> _Slot:
        host = ray.remote(Host).options(max_restarts=0, max_task_retries=0, **self._resources)
        return _Slot(host.remote(self._threads))

    def free_bytes(self, slot: int) -> int | None:
        return self._slots[slot].free_bytes

    def submit(self, slot: int, job: Job) -> None:
        self._slots[slot].jobs.append(job)

    def wait(self, seconds: float) -> list[Event]:
        for slot in self._slots:
            if slot.pending is None:
                slot.ask(self._setting)
        asked = {slot.pending: number for number, slot in enumerate(self._slots)}
        ray.wait(list(asked), num_returns=1, timeout=seconds)
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0)
        return [event for answer in ready for event in self._read(asked[answer])]

    def _read(self, number: int) -> list[Event]:
        slot = self._slots[number]
        pending, slot.pending = slot.pending, None
        try:
            answer = ray.get(pending)
        except ActorUnavailableError:  # not known whether it is dead: ask for the same turn again
            time.sleep(0.1)
            return []
        except RayActorError as reason:  # it is dead, and so is its worker
            if "creation task" in str(reason):
                raise UserError(f"--engine ray: a machine cannot start a worker: {_last_line(reason)}") from None
            self._slots[number] = self._place()
            return [] if slot.free_bytes is None else [Event(number, None)]
        except RayTaskError as reason:
            raise reason.cause from None
        if slot.free_bytes is None:
            slot.free_bytes = answer
            return []
        slot.asked = None
        return [replace(event, slot=number) for event in answer]

    def kill(self, slot: int) -> None:
        ray.kill(self._slots[slot].host)  # the kernel then kills its worker

    def stop(self, grace: float) -> None:
        """Also leaves the cluster, which ends the actors."""
        if ends := [slot.host.stop.remote(grace) for slot in self._slots if slot.free_bytes is not None]:
            ray.wait(ends, num_returns=len(ends), timeout=grace + CONNECT_SECONDS)
        ray.shutdown()


def _marker(log: Path) -> str:
    """Identifies the folder of this sweep: the process that runs it, and since when."""
    return log.with_suffix(".lock").read_text(encoding="utf-8")


def _last_line(reason: Exception) -> str:
    return str(reason).strip().splitlines()[-1].strip()
