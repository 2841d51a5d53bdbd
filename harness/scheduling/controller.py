"""A sweep: every cell of a study, run to its result, by one controller.

A study with tuning seeds has two phases: which cells are reported is known when the tuning cells have ended.

The controller alone hands out cells and writes Optuna and MLflow. It can be killed at any moment: the cells'
folders say what is done, and the next controller brings ledger and tracking up to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from harness.activations.store import ActivationStore
from harness.files import once_there_is_room, write_atomically
from harness.locks import exclusive, is_held, this_process
from harness.scheduling.cell_folder import CellFolder
from harness.scheduling.claims import already_run
from harness.scheduling.cohorts import in_order
from harness.scheduling.device_memory import room
from harness.scheduling.dispatch import Dispatcher, Options
from harness.scheduling.display import Display, SweepProgress
from harness.scheduling.engine import Engine
from harness.scheduling.interrupts import Interrupts
from harness.scheduling.pool import Pool
from harness.scheduling.verdicts import Verdicts
from harness.scheduling.workspace import Workspace, code_fingerprint
from harness.study.cells import Cell, Score, fingerprint, possible_cells, size
from harness.study.edits import asked
from harness.study.plan import Cost, cost
from harness.study.spec import Study

GRACE = 20.0  # seconds for workers to checkpoint when the sweep is stopped
# Starts an engine, given its log and the bytes that each worker needs besides those of its cells.
Start = Callable[[Options, Path, int], Engine]


def start_here(options: Options, log: Path, shared: int) -> Pool:
    """Workers on this machine."""
    return Pool(room(options.devices, options.workers, shared), options.threads, log)


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
        start: Start = start_here,
    ) -> None:
        self.study = study
        self.known = known
        self.store = store
        self.workspace = workspace
        self.options = options
        self.start = start
        self.cells: dict[str, Cell] = {}  # taken up so far, in the order in which they are listed
        self.progress = SweepProgress(study.name, size(study))
        self.verdicts = Verdicts(study.pruning, self._folder)

    def run(self, console: Console) -> SweepProgress:
        """Run all cells that have no result yet. Raises UserError if another controller runs this study.

        Ctrl-C and SIGTERM raise KeyboardInterrupt, after the workers have checkpointed.
        """
        lock = self.workspace.controller(self.study.name)
        with exclusive(lock, patience=1.0) as mine:
            if not mine:
                raise already_run(self.study, lock.read_text())
            once_there_is_room(lock, partial(lock.write_text, this_process()))
            self.interrupts = Interrupts()
            now = asked(self.study, self.store.fingerprint, code_fingerprint())
            now |= {"file": self.workspace.file(self.study.file.path)}
            write_atomically(self.workspace.asked(self.study.name), json.dumps(now).encode())
            self._run(console)
        return self.progress

    def _run(self, console: Console) -> None:
        if self._settled():
            with Display(self.progress, console):
                return
        options = replace(self.options, workers=min(self.options.workers, self.progress.cells))
        engine = self.start(options, self.workspace.log(self.study.name), self._shared_bytes())
        books = None
        try:  # workers get ready while the databases are opened
            with console.status("opening Optuna's and MLflow's databases"):
                from harness.scheduling.books import Books  # and with it both: two seconds of imports

                known = {name: self.store.manifest[name] for name in ("outlier_severity", "norm_mean")}
                say = partial(console.print, soft_wrap=True, markup=False, highlight=False)
                self.books = books = Books(self.study, self.workspace, known, say, self.verdicts)
                books.keep_only(self._possible())
            dispatcher = Dispatcher(engine, books, self.progress, options, self.store, self.verdicts, say)
            for cells in self._phases():
                dispatcher.add(*self._take_up(cells))
                with Display(self.progress, console) as display:
                    dispatcher.work_off(display, self.interrupts.check)
            with console.status("bringing the databases up to the cells on disk"):
                books.settle()
        finally:
            engine.stop(GRACE)
            if books is not None:
                books.close(complete=self.progress.done == self.progress.cells)
        if self.progress.done == self.progress.cells:
            write_atomically(self.workspace.settled(self.study.name), self._told(list(self.cells.values())))

    def _settled(self) -> bool:
        """Take up all cells if they are done, and if the databases have been told of just these already."""
        cells = self.known(lambda cell: self._folder(cell).score())
        path = self.workspace.settled(self.study.name)
        if len(cells) < self.progress.cells or not path.exists() or path.read_bytes() != self._told(cells):
            return False
        if any(self._folder(cell.id).result() is None for cell in cells):
            return False
        self.cells = {cell.id: cell for cell in cells}
        self.progress.done = len(cells)
        return True

    def _told(self, cells: list[Cell]) -> bytes:
        """Stands for what the databases are told of finished cells, and for the databases."""
        said = [[cell.id, cell.label, cell.phase, cell.arm, cell.tuned] for cell in cells]
        return fingerprint(
            [self.study.question, sorted(said, key=str), self.workspace.databases(self.study.name)]
        ).encode()

    def _folder(self, cell: str) -> CellFolder:
        return CellFolder(self.workspace.cell(cell), self.study.pruned_by)

    def _possible(self) -> set[str]:
        """Cells that the study can come to ask for, whichever settings are chosen at its tuning seeds."""
        return {cell.id for cell in possible_cells(self.study, self.store.fingerprint, code_fingerprint())}

    def _shared_bytes(self) -> int:
        """What a worker holds of the held-out activations."""
        return 4 * self.store.tokens("held_out") * self.store.width

    def _phases(self) -> Iterator[list[Cell]]:
        """The cells of one phase after the other; those of the second are asked for when the first is over."""

        def score(cell: str) -> float | None:
            return self._folder(cell).score()

        tuning = [cell for cell in self.known(lambda cell: None) if cell.phase == "tuning"]
        self.verdicts.add(in_order(tuning, self._costs(tuning)))
        if any(self._folder(cell.id).result() is None for cell in tuning):
            self.progress.phase = "tuning"
            yield tuning
        self.progress.phase = "reported" if tuning else None
        known = self.known(score)
        reported = [cell for cell in known if cell.phase == "reported"]
        self.verdicts.add(in_order(reported, self._costs(reported)))
        yield [cell for cell in known if cell.id not in self.cells]

    def _costs(self, cells: list[Cell]) -> dict[str, Cost]:
        known = self.study.known_features
        return {cell.id: cost(cell.recipe, self.store.width, known) for cell in cells}

    def _take_up(self, cells: list[Cell]) -> tuple[dict[str, Cell], dict[str, Cost]]:
        """Take up all cells and count those that have a result; the others by id, and the costs of all."""
        self.cells |= {cell.id: cell for cell in cells}
        costs = self._costs(cells)
        left = {}
        for cell in in_order(cells, costs):
            if self.books.add(cell):
                self.progress.done += 1
            else:
                left[cell.id] = cell
        return left, costs


def read_lock(path: Path) -> str | None:
    """Who runs the study whose lock this is, or None."""
    return path.read_text() if is_held(path) else None
