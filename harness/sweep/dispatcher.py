"""Hands out cells to workers in cohorts, until each cell has ended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.engines.engine import Engine, Event, Options
from harness.study.cells import CellSpec
from harness.study.plan import Cost
from harness.sweep.cohorts import LARGEST, MAX_LOSSES, MOST_MICRO_BATCHES, CohortQueue, Limits
from harness.sweep.display import CellProgress, Display, SweepProgress
from harness.sweep.hung_workers import HungWorkers
from harness.workers.job import Job

if TYPE_CHECKING:
    from harness.activations.store import ActivationStore
    from harness.sweep.kept_saes import KeptSAEs
    from harness.sweep.pruner import Pruner
    from harness.sweep.study_recorder import StudyRecorder

POLL = 0.25  # seconds to wait for messages of workers
SEND = 2.0  # seconds between two readings of the curves: one commit to a database costs as much as many points
PACE = 2.0  # curves written to the databases per second, at most: with more cells, each is read less often
BUSY = 1.0  # seconds until a cell that another process trains is tried again


class Dispatcher:
    """Runs the cells that it is given to their ends, and records what happens to them."""

    def __init__(
        self,
        engine: Engine,
        recorder: StudyRecorder,
        progress: SweepProgress,
        options: Options,
        activations: ActivationStore,
        pruner: Pruner,
        say: Callable[[str], Any],
        kept: KeptSAEs,
    ) -> None:
        """say: prints a line for the user."""
        self._engine = engine
        self._recorder = recorder
        self._progress = progress
        self._options = options
        self._activations = activations
        self._pruner = pruner
        self._kept = kept
        self._hung_workers = HungWorkers(engine, options.patience_seconds, say)
        self._leaving: set[int] = set()  # slots whose workers were told to stop
        self._open = 0  # cells that have not ended
        self._cells: dict[str, CellSpec] = {}
        self._costs: dict[str, Cost] = {}
        self._waiting: deque[CellSpec] = deque()
        self._busy: deque[tuple[float, CellSpec]] = (
            deque()
        )  # when to try again, and cells that other processes train
        self._unjudged: set[str] = set()  # cells that have ended, and may still be pruned
        self._begun: set[str] = set()  # cells that are recorded as started
        self._queue = CohortQueue(lambda: self._waiting.popleft() if self._waiting else None, self._costs)

    def add(self, cells: Mapping[str, CellSpec], costs: Mapping[str, Cost]) -> None:
        """Add cells by id; those that were started before go first."""
        self._cells |= cells
        self._costs |= costs
        self._open += len(cells)
        self._progress.work += sum(costs[cell].work for cell in cells)
        started = set(self._recorder.started())
        self._queue.put_back(cell for name, cell in cells.items() if name in started)
        self._waiting.extend(cell for name, cell in cells.items() if name not in started)

    def work_off(self, display: Display, check: Callable[[], None]) -> None:
        """Run all added cells to their ends. `check` is called often; what it raises ends this."""
        looked = time.monotonic()
        while self._open:
            check()
            self._hand_out()
            entering = self._recorder.enter(POLL)
            for event in self._engine.wait(0 if entering else POLL):
                self._on(event)
            self._hung_workers.end_hung({*self._leaving, *(cell.slot for cell in self._progress.running.values())})
            self._recorder.catch_up()
            self._judge()
            if time.monotonic() - looked >= max(SEND, len(self._progress.running) / PACE):
                looked = time.monotonic()
                for cell in self._progress.running:
                    self._pass_on(cell)
            display.update()

    def _judge(self) -> None:
        """Prune cells, if the study says so: workers see that at their cells' next points."""
        self._pruner.look(self._progress.running)
        for cell in [cell for cell in self._unjudged if self._pruner.final(cell)]:
            self._unjudged.remove(cell)
            self._close(cell)

    def _pass_on(self, cell: str) -> None:
        if (fvu := self._recorder.pass_on(cell)) is not None:
            self._progress.running[cell].fvu = fvu

    def _hand_out(self) -> None:
        """Give each free slot a cohort."""
        while self._busy and self._busy[0][0] <= time.monotonic():
            self._queue.put_back([self._busy.popleft()[1]])
        for slot in range(self._options.workers):
            while (free_bytes := self._engine.free_bytes(slot)) is not None and self._free(slot):
                share = self._progress.work_left() / self._options.workers
                limits = Limits(self._options.cohort or LARGEST, free_bytes, share)
                if not (cohort := self._queue.take(limits)):
                    return
                self._start(slot, cohort)

    def _free(self, slot: int) -> bool:
        return slot not in self._leaving and not self._progress.on(slot)

    def _start(self, slot: int, cohort: list[CellSpec]) -> None:
        for cell in cohort:
            if cell.id not in self._begun:
                self._begun.add(cell.id)
                self._recorder.start(cell)
            folder = self._recorder.folder(cell.id)
            tokens = 0 if folder.new() and not folder.trained() else None
            work = self._costs[cell.id].work
            self._progress.running[cell.id] = CellProgress(slot, cell.label, cell.recipe.tokens, work, tokens)
            self._pass_on(cell.id)
            if self._recorder.done(cell):  # another process has finished it
                self._finish(cell.id)
        if names := self._progress.on(slot):
            self._hung_workers.work_started(slot)
            self._engine.submit(slot, self._job(slot, names))

    def _job(self, slot: int, names: list[str]) -> Job:
        return Job(
            cells={str(self._recorder.folder(name).path): asdict(self._cells[name].recipe) for name in names},
            activations=str(self._activations.path),
            fingerprint=self._activations.fingerprint,
            device=self._options.devices[slot % len(self._options.devices)],
            threads=self._options.threads,
            checkpoint_seconds=self._options.checkpoint_seconds,
            micro_batches=self._queue.micro_batches(names),
            pruned_by=self._recorder.pruned_by,
            points=self._recorder.curve_points,
            measurements=self._recorder.measurements,
        )

    def _on(self, event: Event) -> None:
        self._hung_workers.heard(event)
        if event.message is None:
            self._leaving.discard(event.slot)
            for cell in self._progress.on(event.slot):
                self._out_of_memory(cell) if event.out_of_memory else self._lost(cell, event.exit_code)
        elif "tokens" in event.message:
            for cell, tokens in event.message["tokens"].items():
                self._progress.moved(cell, tokens)
                self._queue.moved(cell, tokens)
        elif "end" in event.message:
            self._ended(event.slot, event.message["cell"], event.message["end"])

    def _ended(self, slot: int, cell: str, how: str) -> None:
        if how == "stopped":
            del self._progress.running[cell]
            self._queue.put_back([self._cells[cell]])
            self._leaving.add(slot)
        elif how == "busy":  # another study, or a worker whose controller is gone, trains it
            del self._progress.running[cell]
            self._busy.append((time.monotonic() + BUSY, self._cells[cell]))
        elif how == "out_of_memory":
            self._out_of_memory(cell)
        elif how in ("done", "failed"):
            self._finish(cell)

    def _lost(self, cell: str, exit_code: int | None) -> None:
        """Its worker vanished: it continues from its checkpoint, alone, unless that has happened too often."""
        how = "its machine" if exit_code is None else f"exit code {exit_code}"
        reason = f"its worker vanished {MAX_LOSSES} times, the last time with {how}"
        self._again(cell, reason if not self._queue.lost(self._cells[cell]) else None)

    def _out_of_memory(self, cell: str) -> None:
        """It ran out of memory: it continues alone, then in smaller micro-batches, unless it was tried."""
        reason = f"out of memory, even alone and in {MOST_MICRO_BATCHES} micro-batches"
        self._again(cell, reason if not self._queue.out_of_memory(self._cells[cell]) else None)

    def _again(self, cell: str, reason: str | None) -> None:
        """Record that a cell is in the queue again, or that it has failed for this reason."""
        if reason is None:
            del self._progress.running[cell]
            self._recorder.folder(cell).count_retry()
            self._progress.retries += 1
        else:
            self._recorder.folder(cell).fail(reason)
            self._finish(cell)

    def _finish(self, cell: str) -> None:
        """A cell has ended on its worker."""
        result = self._recorder.folder(cell).result()
        self._progress.ended(cell, result["tokens"] if result else None)
        self._pruner.ended(cell)
        if self._pruner.final(cell):
            self._close(cell)
        else:
            self._unjudged.add(cell)

    def _close(self, cell: str) -> None:
        """A cell has ended, and its state is final."""
        self._open -= 1
        self._kept.drop(cell)
        if self._recorder.finish(cell):
            self._progress.done += 1
        else:
            self._progress.failed += 1
