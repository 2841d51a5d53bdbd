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
from harness.scheduling.cell_folder import CellFolder, exclusive
from harness.scheduling.display import CellProgress, Display, SweepProgress
from harness.scheduling.job import Job
from harness.scheduling.ledger import Ledger
from harness.scheduling.pool import Event, Pool
from harness.scheduling.tracking import Tracker
from harness.scheduling.workspace import Workspace
from harness.study.cells import Cell, Score, size
from harness.study.plan import cost
from harness.study.spec import Study

MAX_LOSSES = 5  # times in a row that a cell's worker may vanish without a sign of progress: then it has failed
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
        self.work: dict[str, float] = {}
        self.folders: dict[str, CellFolder] = {}
        self.progress = SweepProgress(study.name, size(study))
        self.slots: dict[int, str] = {}  # slot -> cell on it
        self.again: list[str] = []  # started cells without a worker
        self.losses: dict[str, int] = {}
        self.sent: dict[str, int] = {}  # points of its curve that a cell's run has

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
            self.ledger = Ledger(self.workspace.storage, self.study)
            self.tracker = Tracker(self.workspace.tracking, self.workspace.artifacts, self.study)
            self.tracker.describe({name: self.store.manifest[name] for name in ("outlier_severity", "norm_mean")})
        self.pool = Pool(
            self.options.workers, self.options.threads, self.workspace.runs / f"{self.study.name}.log"
        )
        try:
            for cells in self._phases():
                with console.status("bringing them up to the cells on disk"):
                    self._take_up(cells)
                with Display(self.progress, console) as display:
                    self._work_off(display)
            self.ledger.drop_others()
        finally:
            self.pool.stop(GRACE)
            self.tracker.close(complete=self.progress.done == self.progress.cells)

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
        self.work |= {cell.id: cost(cell.recipe, self.store.width).work for cell in cells}
        self.folders |= {cell.id: CellFolder(self.workspace.cell(cell.id)) for cell in cells}
        # The longest cells first, so that no worker is left alone with one at the end.
        for cell in sorted(cells, key=lambda c: -self.work[c.id]):
            folder = self.folders[cell.id]
            result = folder.result()
            finished = self.ledger.add(cell, result, folder.points() if result else [])
            if result is None or not finished:
                folder.describe({"arm": cell.arm, "recipe": asdict(cell.recipe)})
                self.progress.work += self.work[cell.id]
            else:
                self.progress.done += 1
                if not self.tracker.finished(cell):
                    self.tracker.start(cell)
                    self._send_points(cell.id)
                    self.tracker.finish(cell.id, result)
        asked = {cell.id for cell in cells}
        self.again = [cell for cell in self.ledger.running() if cell in asked]

    def _work_off(self, display: Display) -> None:
        """Run the cells that have been taken up to their ends."""
        looked = time.monotonic()
        while self._hand_out():
            for event in self.pool.wait(POLL):
                self._on(event)
            if time.monotonic() - looked >= SEND:
                looked = time.monotonic()
                for slot, cell in self.slots.items():
                    self._send_points(cell, slot)
            display.update()

    def _hand_out(self) -> bool:
        """Fill free slots; whether anything is still running."""
        for slot in range(self.options.workers):
            while slot not in self.slots:
                cell = self.again.pop() if self.again else self.ledger.start_next()
                if cell is None:
                    return bool(self.slots)
                self._start(slot, self.cells[cell])
        return bool(self.slots)

    def _start(self, slot: int, cell: Cell) -> None:
        self.tracker.start(cell)
        self.slots[slot] = cell.id
        self.progress.running[slot] = CellProgress(cell.label, 0, cell.recipe.tokens, self.work[cell.id])
        if self.folders[cell.id].result() is not None:  # another study, or an orphan, has finished it meanwhile
            self._finish(slot, cell.id)
            return
        self.pool.submit(
            slot,
            Job(
                folder=str(self.folders[cell.id].path),
                activations=str(self.store.path),
                recipe=asdict(cell.recipe),
                device=self.options.devices[slot % len(self.options.devices)],
                threads=self.options.threads,
                checkpoint_seconds=self.options.checkpoint_seconds,
            ),
        )

    def _on(self, event: Event) -> None:
        cell = self.slots.get(event.slot)
        if cell is None:
            return
        if event.message is None:
            self._lost(event, cell)
        elif "tokens" in event.message:
            self.progress.running[event.slot].tokens = event.message["tokens"]
            self.losses.pop(cell, None)
        elif event.message["end"] == "busy":  # an orphan or another study trains it: look again in a moment
            self._release(event.slot)
            self.again.insert(0, cell)
            time.sleep(POLL)
        elif event.message["end"] in ("done", "failed"):
            self._finish(event.slot, cell)

    def _lost(self, event: Event, cell: str) -> None:
        """A worker vanished: its cell goes on from its checkpoint, unless that has happened too often."""
        self.losses[cell] = self.losses.get(cell, 0) + 1
        if self.losses[cell] < MAX_LOSSES:
            self._release(event.slot)
            self.again.append(cell)
            return
        self.folders[cell].fail(
            f"its worker vanished {MAX_LOSSES} times, the last time with exit code {event.exit_code}"
        )
        self._finish(event.slot, cell)

    def _finish(self, slot: int, cell: str) -> None:
        self._send_points(cell)
        folder = self.folders[cell]
        result = folder.result()
        if result is None:
            self.progress.failed += 1
            result = folder.failure() or {"state": "failed", "reason": "unknown"}
        else:
            self.progress.done += 1
        self.ledger.finish(cell, result)
        self.tracker.finish(cell, result)
        self.progress.work_done += self.work[cell]
        self.progress.tokens_done += self.cells[cell].recipe.tokens
        self._release(slot)

    def _release(self, slot: int) -> None:
        del self.slots[slot], self.progress.running[slot]

    def _send_points(self, cell: str, slot: int | None = None) -> None:
        """Pass on what has been added to the cell's curve."""
        points = self.folders[cell].points()
        sent = self.sent.get(cell, 0)
        if len(points) > sent:
            self.tracker.log(cell, points[sent:])
            if cell in self.ledger.running():
                self.ledger.report(cell, points[sent:])
            self.sent[cell] = len(points)
        if slot is not None and points:
            self.progress.running[slot].fvu = points[-1]["heldout_fvu"]


def read_lock(path: Path) -> str | None:
    """Who runs the study whose lock this is, or None."""
    if not path.exists():
        return None
    with exclusive(path) as mine:
        return None if mine else path.read_text()
