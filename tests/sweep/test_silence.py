"""Who counts as hung, how long a sweep waits for those that do, and what a cell in other hands costs."""

import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from harness.cli import main
from harness.engines.engine import Event
from harness.engines.free_memory import Share
from harness.engines.pool import Pool
from harness.locks import exclusive
from harness.records.mlflow_runs import MlflowRuns
from harness.sweep.hung_workers import LONGEST_TURN, HungWorkers, IdleTime
from harness.workers.cell_folder import CellFolder
from harness.workers.job import Job
from tests.sweep.test_sweep import _known, records, wait_until, workers_of


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_silence_is_counted_while_somebody_listens():
    clock = Clock()
    silence = IdleTime(clock)
    silence.broken(0)
    silence.broken(1)
    for _ in range(8):
        clock.now += 0.25
        silence.listened()
        silence.broken(1)
    assert (silence.of(0), silence.of(1)) == (2.0, 0.0)
    clock.now += 100_000  # the controller was stopped, or the whole machine
    silence.listened()
    assert silence.of(0) == 2.0 + LONGEST_TURN
    assert silence.of(1) == LONGEST_TURN


class Killing:
    """An engine, as far as a watch needs one."""

    def __init__(self):
        self.killed = []

    def kill(self, slot):
        self.killed.append(slot)


def test_a_worker_has_time_to_start_before_its_silence_counts():
    now, engine = [0.0], Killing()
    watch = HungWorkers(engine, 5.0, lambda _: None, clock=lambda: now[0])

    def listen(seconds):
        for _ in range(seconds):
            now[0] += 1
            watch.end_hung([0])

    watch.work_started(0)
    listen(25)
    assert engine.killed == []
    watch.heard(Event(0, {"tokens": {}}))
    listen(5)
    assert engine.killed == []
    listen(1)
    assert engine.killed == [0]
    watch.heard(Event(0, None))  # its end; the next worker of the slot starts anew
    watch.work_started(0)
    listen(30)
    assert engine.killed == [0]
    listen(1)
    assert engine.killed == [0, 0]


def test_workers_that_hang_have_one_grace_together(tmp_path):
    this = SimpleNamespace(pid=os.getpid())
    others = set(workers_of(this))  # what earlier tests left to this process, such as a resource tracker
    pool = Pool([Share(0)] * 4, 1, tmp_path / "log")
    workers = set(workers_of(this)) - others
    assert len(workers) == 4
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    started = time.monotonic()
    pool.stop(1.0)
    assert time.monotonic() - started < 3.0
    assert not workers & set(workers_of(this))


def test_a_cell_in_other_hands_is_asked_for_now_and_then_and_holds_nobody_up(small_study, databases, monkeypatch):
    text = small_study.read_text().partition("axes:")[0]
    small_study.write_text(text + "axes: {lr: [1e-3, 4e-3]}\nseeds: [0]\n")
    shutil.copytree(databases, "runs")
    taken, free = (Path("runs/cells") / cell.id for cell in _known(small_study))
    told: list[str] = []
    start = MlflowRuns.start
    monkeypatch.setattr(MlflowRuns, "start", lambda self, cell: (told.append(cell.id), start(self, cell)))
    with exclusive(taken / "lock") as mine:
        assert mine
        freed = threading.Event()

        def give_back() -> None:
            wait_until((free / "result.json").exists)
            time.sleep(2.5)
            (taken / "lock").unlink()  # whoever asks now gets a lock of its own
            freed.set()

        threading.Thread(target=give_back).start()
        main(["run", str(small_study), "--workers", "1"])
        assert freed.is_set()
    assert sorted(told) == sorted([taken.name, free.name])
    assert [row["state"] for row in records(Path(), "cells.jsonl")] == ["complete"] * 2


def test_a_pool_whose_worker_was_killed_with_a_job_unread_stops_the_others(tmp_path):
    pool = Pool([Share(0), Share(0)], 1, tmp_path / "log")
    first, second = pool._workers
    first.kill()
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    pool.submit(0, Job(cells={}, activations="", device="cpu", threads=1, checkpoint_seconds=None))
    pool.stop(grace=30.0)
    assert None not in (first.poll(), second.poll())


def test_two_controllers_whose_studies_share_cells_may_start_them_at_once(tmp_path):
    together = threading.Barrier(2, timeout=10)

    def start(_controller: int) -> None:
        for number in range(20):
            together.wait()
            CellFolder(tmp_path / str(number)).describe({"arm": {"layers": "none"}})

    with ThreadPoolExecutor(2) as controllers:
        list(controllers.map(start, range(2)))
    assert all(CellFolder(tmp_path / str(number)).description() for number in range(20))
