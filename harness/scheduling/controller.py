"""A sweep: every cell of a study, run to its result, by one controller.

A study with tuning seeds has two phases: which cells are reported is known when the tuning cells have ended.

The controller alone hands out cells and writes Optuna and MLflow. It can be killed at any moment: the cells'
folders say what is done, and the next controller brings ledger and tracking up to them.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from harness.activations.store import ActivationStore
from harness.errors import UserError
from harness.scheduling.books import Books
from harness.scheduling.cell_folder import CellFolder, exclusive
from harness.scheduling.cohorts import LARGEST, MAX_LOSSES, Limits, Queue, in_order
from harness.scheduling.device_memory import room
from harness.scheduling.display import CellProgress, Display, SweepProgress
from harness.scheduling.job import Job
from harness.scheduling.pool import Event, Pool
from harness.scheduling.workspace import Workspace
from harness.study.cells import Cell, Score, size
from harness.study.plan import Cost, cost
from harness.study.spec import Study

GRACE = 20.0  # seconds for workers to checkpoint when the sweep is stopped
POLL = 0.25  # seconds between two looks at the workers
SEND = 2.0  # seconds between two looks at the curves: a commit to a database costs as much as many points


@dataclass(frozen=True)
class Options:
    """How to run on this machine; no part of what a cell is."""

    workers: int
    threads: int  # a worker
    devices: tuple[str, ...]  # one a slot, used in turn
    checkpoint_seconds: float
    cohort: int | None = None  # most cells that a worker trains together


class Sweep:
    """One run of a study's cells.

    known: the cells that are known from the scores of others, as `harness.study.cells.cells` gives them.
    """

    def __init__(
        self,
        study: Study,
        known: Callable[[Score], list[Cell]],
        store: ActivationStore,
        workspace: Workspace,
        options: Options,
    ) -> None:
        self.study = study
        self.known = known
        self.store = store
        self.workspace = workspace
        self.options = options
        self.cells: dict[str, Cell] = {}  # taken up so far, in the order in which they are listed
        self.costs: dict[str, Cost] = {}
        self.progress = SweepProgress(study.name, size(study))
        self.queue = Queue(self._start_next, self.costs)

    def run(self, console: Console) -> SweepProgress:
        """Run all cells that have no result yet. Raises UserError if another controller runs this study.

        Ctrl-C and SIGTERM raise KeyboardInterrupt, after the workers have checkpointed.
        """
        lock = self.workspace.controller(self.study.name)
        with exclusive(lock, patience=1.0) as mine:
            if not mine:
                raise UserError(
                    f"{self.study.name}: already being run by {lock.read_text()}; `harness status` shows it"
                )
            lock.write_text(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}")
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            self._run(console)
        return self.progress

    def _run(self, console: Console) -> None:
        with console.status("opening Optuna's and MLflow's databases"):
            known = {name: self.store.manifest[name] for name in ("outlier_severity", "norm_mean")}
            self.books = Books(self.study, self.workspace, known)
        self.room = room(self.options.devices, self.options.workers, self._shared_bytes())
        log = self.workspace.runs / f"{self.study.name}.log"
        self.pool = Pool(self.options.workers, self.options.threads, log)
        try:
            for cells in self._phases():
                with console.status("bringing them up to the cells on disk"):
                    self._take_up(cells)
                with Display(self.progress, console) as display:
                    self._work_off(display)
            self.books.drop_others()
        finally:
            self.pool.stop(GRACE)
            self.books.close(complete=self.progress.done == self.progress.cells)

    def _shared_bytes(self) -> int:
        """What a worker holds of the held-out activations, at the end also all codes of one cell at a time."""
        known_features = "features" in self.store.manifest
        codes = 2 * max(cell.recipe.latents for cell in self.known(lambda cell: None)) if known_features else 0
        return 4 * self.store.tokens("held_out") * (self.store.width + codes)

    def _phases(self) -> Iterator[list[Cell]]:
        """The cells of one phase after the other; those of the second are asked for when the first is over."""

        def score(cell: str) -> float | None:
            return CellFolder(self.workspace.cell(cell)).score()

        tuning = [cell for cell in self.known(lambda cell: None) if cell.phase == "tuning"]
        if any(CellFolder(self.workspace.cell(cell.id)).result() is None for cell in tuning):
            self.progress.phase = "tuning"
            yield tuning
        self.progress.phase = "reported" if tuning else None
        yield [cell for cell in self.known(score) if cell.id not in self.cells]

    def _take_up(self, cells: list[Cell]) -> None:
        """Give every cell its trial, finish those that have a result, and go on with those left running."""
        self.cells |= {cell.id: cell for cell in cells}
        self.costs |= {cell.id: cost(cell.recipe, self.store.width) for cell in cells}
        for cell in in_order(cells, self.costs):
            if self.books.add(cell):
                self.progress.done += 1
            else:
                self.books.folder(cell.id).describe({"arm": cell.arm, "recipe": asdict(cell.recipe)})
                self.progress.work += self.costs[cell.id].work
        started = set(self.books.started())
        self.queue.put_back(cell for cell in in_order(cells, self.costs) if cell.id in started)

    def _start_next(self) -> Cell | None:
        cell = self.books.start_next()
        return None if cell is None else self.cells[cell]

    def _work_off(self, display: Display) -> None:
        """Run the cells that have been taken up to their ends."""
        looked = time.monotonic()
        while self._hand_out():
            for event in self.pool.wait(POLL):
                self._on(event)
            if time.monotonic() - looked >= SEND:
                looked = time.monotonic()
                for cell, progress in self.progress.running.items():
                    if last := self.books.pass_on(cell):
                        progress.fvu = last["heldout_fvu"]
            display.update()

    def _hand_out(self) -> bool:
        """Fill free slots; whether anything is running."""
        for slot in range(self.options.workers):
            while not self.progress.on(slot):
                share = self.progress.work_left() / self.options.workers
                limits = Limits(self.options.cohort or LARGEST, self.room[slot], share)
                if not (cohort := self.queue.take(limits)):
                    return bool(self.progress.running)
                self._start(slot, cohort)
        return bool(self.progress.running)

    def _start(self, slot: int, cohort: list[Cell]) -> None:
        for cell in cohort:
            self.books.start(cell)
            progress = CellProgress(slot, cell.label, 0, cell.recipe.tokens, self.costs[cell.id].work)
            self.progress.running[cell.id] = progress
            if self.books.folder(cell.id).result() is not None:  # another study, or an orphan, has finished it
                self._finish(cell.id)
        if cells := {cell: self.cells[cell] for cell in self.progress.on(slot)}:
            self.pool.submit(
                slot,
                Job(
                    cells={str(self.workspace.cell(name)): asdict(cell.recipe) for name, cell in cells.items()},
                    activations=str(self.store.path),
                    device=self.options.devices[slot % len(self.options.devices)],
                    threads=self.options.threads,
                    checkpoint_seconds=self.options.checkpoint_seconds,
                ),
            )

    def _on(self, event: Event) -> None:
        if event.message is None:
            times = f"{MAX_LOSSES} times, the last time with exit code {event.exit_code}"
            for cell in self.progress.on(event.slot):
                self._lost(cell, f"its worker vanished {times}")
        elif "tokens" in event.message:
            for cell, tokens in event.message["tokens"].items():
                self.progress.running[cell].tokens = tokens
                self.queue.moved(cell, tokens)
        else:
            self._ended(event.message["cell"], event.message["end"])

    def _ended(self, cell: str, how: str) -> None:
        if how == "busy":  # an orphan or another study trains it: look again in a moment
            del self.progress.running[cell]
            self.queue.put_back([self.cells[cell]])
            time.sleep(POLL)
        elif how == "crowded":
            self._lost(cell, f"out of memory {MAX_LOSSES} times")
        elif how in ("done", "failed"):
            self._finish(cell)

    def _lost(self, cell: str, reason: str) -> None:
        """A cell goes on from its checkpoint, alone, unless that has happened too often for this reason."""
        if self.queue.lost(self.cells[cell]):
            del self.progress.running[cell]
        else:
            self.books.folder(cell).fail(reason)
            self._finish(cell)

    def _finish(self, cell: str) -> None:
        if self.books.finish(cell):
            self.progress.done += 1
        else:
            self.progress.failed += 1
        self.progress.ended(cell)


def read_lock(path: Path) -> str | None:
    """Who runs the study whose lock this is, or None."""
    if not path.exists():
        return None
    with exclusive(path) as mine:
        return None if mine else path.read_text()
