"""Several workers on one GPU: what each of them may take of it, without a GPU."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from harness.engines import free_memory
from harness.engines.free_memory import PROCESS, SHARE, Share, shares
from harness.engines.pool import Pool
from harness.workers.worker import Messages, run_job
from tests.sweep.test_worker import RECIPE, job

GIB = 2**30


@pytest.fixture
def gpu(monkeypatch):
    """In place of `torch.cuda`: says `free` in turn, the last of it for ever; keeps what `fractions` are set."""
    told = SimpleNamespace(free=[80 * GIB], total=80 * GIB, fractions={}, slept=[])

    def info(device):
        return (told.free.pop(0) if len(told.free) > 1 else told.free[0]), told.total

    def properties(device):
        return SimpleNamespace(total_memory=told.total)

    monkeypatch.setattr(torch.cuda, "mem_get_info", info)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda part, device: told.fractions.update({device: part}),
    )
    monkeypatch.setattr(free_memory.time, "sleep", told.slept.append)
    return told


def test_workers_that_share_a_gpu_have_a_limit_and_others_have_none(gpu):
    (alone,) = shares(("cuda:0",), 1, GIB)
    assert alone == Share(int(SHARE * 80 * GIB) - PROCESS - GIB, None)
    first, other, second = shares(("cuda:0", "cuda:1"), 3, GIB)
    assert first == second == Share(int(SHARE * 40 * GIB) - PROCESS - GIB, 40 * GIB - PROCESS)
    assert other == alone
    assert {share.limit for share in shares(("cpu",), 3, 0)} == {None}


@pytest.mark.parametrize(
    ("free", "found", "seconds"),
    [
        ([79 * GIB], 79 * GIB, 0),
        ([20 * GIB, 20 * GIB], 20 * GIB, 1),  # another process that goes on
        ([20 * GIB, 50 * GIB, 79 * GIB], 79 * GIB, 2),  # workers that are ending
        ([GIB * number for number in range(1, 50)], 11 * GIB, 10),
    ],
)
def test_what_workers_of_a_killed_sweep_give_back_counts(gpu, free, found, seconds):
    gpu.free = free
    (share,) = shares(("cuda:0",), 1, 0)
    assert share.cells == int(SHARE * found) - PROCESS
    assert gpu.slept == [1] * seconds


class Quiet(Messages):
    """Keeps what it is told to send."""

    def __init__(self):
        self.sent = []
        self.stop = False

    def send(self, **message):
        self.sent.append(message)


@pytest.mark.parametrize(
    ("device", "limit", "fractions"),
    [
        ("cuda:1", 20 * GIB, {1: 0.25}),
        ("cuda:1", 200 * GIB, {1: 1.0}),
        ("cuda:1", None, {}),
        ("cuda", 20 * GIB, {None: 0.25}),  # on a Ray cluster: the only one that its worker sees
    ],
)
def test_a_worker_holds_torch_to_its_limit(small_study, gpu, device, limit, fractions):
    """Here its cell then fails, as there is no GPU."""
    messages = Quiet()
    run_job(replace(job({"a": RECIPE}), device=device, limit=limit), messages)
    assert gpu.fractions == fractions
    assert messages.sent[-1] == {"cell": "a", "end": "failed"}


def test_each_slot_tells_its_worker_its_own_limit(small_study, tmp_path, monkeypatch):
    echo = tmp_path / "python"
    echo.write_text("#!/bin/sh\nexec cat\n")
    echo.chmod(0o755)
    monkeypatch.setattr("harness.engines.pool.sys.executable", str(echo))
    pool = Pool([Share(0, 5), Share(0)], 1, tmp_path / "log")
    told: dict[int, int | None] = {}
    for slot in (0, 1):
        pool.submit(slot, job({str(slot): RECIPE}))
    while len(told) < 2:
        told |= {event.slot: event.message["limit"] for event in pool.wait(10)}
    assert told == {0: 5, 1: None}
    pool.stop(5.0)
