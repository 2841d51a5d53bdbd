"""A sweep: one controller runs every cell of a study to its result.

A study with tuning seeds has two phases: which cells are reported is known once the tuning cells have ended.

Only the controller hands out cells and writes to Optuna and MLflow. It can be killed at any moment: the cells'
folders say what is done, and the next controller updates Optuna and MLflow from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from harness.activations.store import ActivationStore
from harness.files import once_there_is_room, write_atomically, write_json
from harness.fingerprint import fingerprint
from harness.locks import exclusive, is_held, this_process
from harness.scheduling.cell_folder import CellFolder
from harness.scheduling.claims import already_run
from harness.scheduling.cohorts import in_order
from harness.scheduling.device_memory import room
from harness.scheduling.dispatch import Dispatcher, Options
from harness.scheduling.display import Display, SweepProgress
from harness.scheduling.engine import Engine
from harness.scheduling.interrupts import Interrupts
from harness.scheduling.kept import KeptSAEs, may_keep
from harness.scheduling.pool import Pool
from harness.scheduling.verdicts import Verdicts
from harness.scheduling.workspace import Workspace
from harness.study.cells import Cell, Score, possible_cells, size
from harness.study.edits import asked
from harness.study.grid import recipes
from harness.study.identity import Roots, roots
from harness.study.plan import Cost, cost
from harness.study.spec import Study

GRACE = 20.0  # seconds for workers to checkpoint when the sweep is stopped
# Starts an engine, given its log, the bytes that each worker needs besides those of its cells, and the roots of
# the code that trains these.
Start = Callable[[Options, Path, int, Roots], Engine]


def start_here(options: Options, log: Path, shared: int, roots: Roots) -> Pool:
    """Workers on this machine, whose code is this process'."""
    return Pool(room(options.devices, options.workers, shared), options.threads, log)


class Sweep:
    """One run of a study's cells.

    known: the cells known so far, given the scores of the others (`harness.study.cells.cells`).
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
        self.cells: dict[str, Cell] = {}  # added so far, in the order of the study
        self.progress = SweepProgress(study.name, size(study))
        self.verdicts = Verdicts(study.pruning, self._folder)
        self.kept = KeptSAEs(workspace, study.name)

    def run(self, console: Console) -> SweepProgress:
        """Run all cells that have no result yet. Raises UserError if another controller runs this study.

        Ctrl-C and SIGTERM raise KeyboardInterrupt, after the workers have saved checkpoints.
        """
        lock = self.workspace.controller(self.study.name)
        with exclusive(lock, patience=1.0) as mine:
            if not mine:
                raise already_run(self.study, lock.read_text())
            once_there_is_room(lock, partial(lock.write_text, this_process()))
            self.interrupts = Interrupts()
            now = asked(self.study, self.store.fingerprint)
            now |= {"file": self.workspace.file(self.study.file.path)}
            write_json(self.workspace.asked(self.study.name), now)
            self.kept.add(may_keep(self.study, self._possible_cells()))
            self._run(console)
        return self.progress

    def _run(self, console: Console) -> None:
        if self._settled():
            with Display(self.progress, console):
                return
        options = replace(self.options, workers=min(self.options.workers, self.progress.cells))
        engine = self.start(options, self.workspace.log(self.study.name), self._shared_bytes(), self._roots())
        books = None
        try:  # workers start while the databases are opened
            with console.status("opening Optuna's and MLflow's databases"):
                from harness.scheduling.books import Books  # imports Optuna and MLflow, which takes two seconds

                known = {name: self.store.manifest[name] for name in ("outlier_severity", "norm_mean")}
                say = partial(console.print, soft_wrap=True, markup=False, highlight=False)
                self.books = books = Books(self.study, self.workspace, known, say, self.verdicts)
                books.keep_only(self._possible())
            dispatcher = Dispatcher(
                engine, books, self.progress, options, self.store, self.verdicts, say, self.kept
            )
            for cells in self._phases():
                dispatcher.add(*self._take_up(cells))
                with Display(self.progress, console) as display:
                    dispatcher.work_off(display, self.interrupts.check)
            with console.status("updating the databases from the cells on disk"):
                books.settle()
        finally:
            engine.stop(GRACE)
            if books is not None:
                books.close(complete=self.progress.done == self.progress.cells)
        if self.progress.done == self.progress.cells:
            write_atomically(self.workspace.settled(self.study.name), self._told(list(self.cells.values())))

    def _settled(self) -> bool:
        """Whether all cells are done and the databases are known to have exactly these; if so, adds them."""
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
        """Identifies what the databases hold about finished cells, and the databases themselves."""
        said = [[cell.id, cell.label, cell.phase, cell.arm, cell.tuned] for cell in cells]
        return fingerprint(
            [self.study.question, sorted(said, key=str), self.workspace.databases(self.study.name)]
        ).encode()

    def _folder(self, cell: str) -> CellFolder:
        return CellFolder(self.workspace.cell(cell), self.study.pruned_by)

    def _possible(self) -> set[str]:
        """All cells that the study may ask for, whichever settings are chosen at its tuning seeds."""
        return {cell.id for cell in self._possible_cells()}

    def _possible_cells(self) -> list[Cell]:
        return possible_cells(self.study, self.store.fingerprint)

    def _roots(self) -> Roots:
        """Of the code of all its cells."""
        return tuple(sorted({root for _, recipe in recipes(self.study) for root in roots(recipe)}))

    def _shared_bytes(self) -> int:
        """Memory of the held-out activations, which every worker holds."""
        return 4 * self.store.tokens("held_out") * self.store.width

    def _phases(self) -> Iterator[list[Cell]]:
        """The cells of each phase; those of the second phase are computed when the first is over."""

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
        """Add cells and count those with a result. Returns the others by id, and the costs of all."""
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
    """The process that holds this lock of a study, or None."""
    return path.read_text() if is_held(path) else None
