"""A sweep: one controller runs every cell of a study to its result.

Cells are trained in rounds, since which ones a study asks for may depend on the results of others
(`harness.study.known`).

Only the controller hands out cells and writes to Optuna and MLflow. It can be killed at any moment: the cells'
folders say what is done, and the next controller updates Optuna and MLflow from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.activations.store import ActivationStore
from harness.engines.engine import Engine, Options
from harness.engines.free_memory import shares
from harness.engines.pool import Pool
from harness.evaluation.measurements import COMMON_ROOTS, measurements
from harness.files import print_once, retry_while_disk_is_full, write_atomically, write_json
from harness.fingerprint import fingerprint
from harness.locks import exclusive, is_held, this_process
from harness.records.ownership import already_running
from harness.study.cells import CellSpec, Score
from harness.study.edits import asked
from harness.study.grid import recipes
from harness.study.identity import Roots, roots
from harness.study.known import Known, possible_cells, rounds
from harness.study.memory import language_model_bytes, of_worker
from harness.study.plan import Cost, cost
from harness.study.spec import Study
from harness.study.step_time import FORWARD
from harness.sweep.cohorts import in_order
from harness.sweep.dispatcher import Dispatcher
from harness.sweep.display import Display, SweepProgress
from harness.sweep.interrupts import Interrupts
from harness.sweep.kept_saes import KeptSAEs, may_keep
from harness.sweep.latents import StudyLatents
from harness.sweep.pruner import Pruner
from harness.workers.cell_folder import CellFolder
from harness.workspace import Workspace

if TYPE_CHECKING:
    from harness.sweep.study_recorder import StudyRecorder

# Of the activations, told to MLflow
OF_ACTIVATIONS = ("outlier_severity", "norm_mean", "massive_dimension_share", "massive_token_share")
GRACE = 20.0  # seconds for workers to checkpoint when the sweep is stopped
# Starts an engine, given its log, the bytes that each worker needs besides those of its cells, and the roots of
# the code that trains these.
Start = Callable[[Options, Path, int, Roots], Engine]


def start_here(options: Options, log: Path, shared: int, roots: Roots) -> Pool:
    """Workers on this machine, whose code is this process'."""
    return Pool(shares(options.devices, options.workers, shared), options.threads, log)


class Sweep:
    """One run of a study's cells.

    known: the cells known so far, given the scores of those that have ended (`harness.study.known.known`).
    """

    def __init__(
        self,
        study: Study,
        known: Callable[[Score], Known],
        store: ActivationStore,
        workspace: Workspace,
        options: Options,
        start: Start = start_here,
        *,
        train: bool = True,
        train_again: bool = False,
    ) -> None:
        """`train`: whether cells are trained, too; else those that are trained are only measured.

        train_again: whether those are trained again that lack a measurement and cannot be measured any more.
        """
        self.study = study
        self.known = known
        self.store = store
        self.workspace = workspace
        self.options = options
        self.start = start
        self.cells: dict[str, CellSpec] = {}  # taken up so far; after the run, in the order of the study
        self.train = train
        self.train_again = train_again
        self.measurements = measurements(store.fingerprint, store.text_fingerprint)
        found = self._known()
        trained = [cell for cell in found.cells if self._folder(cell.id).result() is not None]
        self.progress = SweepProgress(study.name, found.size if train else len(trained))
        self.pruner = Pruner(study.pruning, self._folder)
        self.kept = KeptSAEs(workspace, study.name)
        self.latents = StudyLatents(study, workspace, store)

    def run(self, console: Console) -> SweepProgress:
        """Run all cells that have no result yet, and measure those that lack a measurement and have their SAEs.

        Raises UserError if another controller runs this study.

        Ctrl-C and SIGTERM raise KeyboardInterrupt, after the workers have saved checkpoints.
        """
        with self.alone():
            self.interrupts = Interrupts()
            if self.train_again:
                self._forget_results()
            if self.train:
                self._forget_cut_off(self._known().cells)
                self._write_asked()
                self.kept.add(may_keep(self.study, self._possible_cells()))
            self._run(console)
        return self.progress

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other controller runs this study. Raises UserError if one does."""
        lock = self.workspace.controller(self.study.name)
        with exclusive(lock, patience=1.0) as mine:
            if not mine:
                raise already_running(self.study, lock.read_text())
            retry_while_disk_is_full(lock, partial(lock.write_text, this_process()))
            yield

    def record(self, console: Console) -> None:
        """Bring the databases up to date with what was found about the cells since `run`, without workers.

        Within `alone`.
        """
        recorder = self._open_recorder(console)
        try:
            for cell in self.cells.values():
                recorder.add(cell)
            recorder.flush(final=self._known().final)
        finally:
            recorder.close(complete=self.done)
        self._note_finished()

    @property
    def done(self) -> bool:
        """Whether every cell of the study has a result, and every measurement that can be made of it."""
        found = self._known()
        return found.final and self.progress.done == len(found.cells)

    @property
    def ended(self) -> bool:
        """Whether every cell has ended, with a result or a failure, and no others can follow."""
        found = self._known()
        return found.final and all(self._folder(cell.id).score() is not None for cell in found.cells)

    def found(self) -> Known:
        """The cells that were taken up, and what is known of others."""
        found = self._known()
        return replace(found, cells=[cell for cell in found.cells if cell.id in self.cells])

    def _forget_results(self) -> None:
        for cell in self._known().cells:
            folder = self._folder(cell.id)
            if folder.stale(self.measurements, cell.recipe) and not folder.keeps_sae():
                folder.forget_result()

    def _forget_cut_off(self, cells: list[CellSpec]) -> None:
        """Have cells trained again whose curves are damaged: nothing else has the points that are missing."""
        for cell in cells:
            folder = self._folder(cell.id)
            if folder.cut_off():
                print_once(f"{folder.curve.absolute()}: cut off; the cell is trained again")
                folder.forget_result()

    def _write_asked(self) -> None:
        now = asked(self.study, self.store.fingerprint)
        now |= {"file": self.workspace.file(self.study.file.path)}
        write_json(self.workspace.asked(self.study.name), now)

    def _run(self, console: Console) -> None:
        if self._finished_before():
            with Display(self.progress, console):
                return
        options = replace(self.options, workers=max(1, min(self.options.workers, self.progress.cells)))
        engine = self.start(options, self.workspace.log(self.study.name), self._shared_bytes(), self._roots())
        recorder = None
        try:  # workers start while the databases are opened
            self.recorder = recorder = self._open_recorder(console)
            recorder.keep_only(self._possible())
            dispatcher = Dispatcher(
                engine, recorder, self.progress, options, self.store, self.pruner, _say(console), self.kept
            )
            for cells in self._rounds():
                dispatcher.add(*self._take_up(cells))
                with Display(self.progress, console) as display:
                    dispatcher.work_off(display, self.interrupts.check)
            found = self._known()
            self.cells = {cell.id: cell for cell in found.cells if cell.id in self.cells}
            with console.status("updating the databases from the cells on disk"):
                recorder.flush(final=found.final)
        finally:
            engine.stop(GRACE)
            if recorder is not None:
                recorder.close(complete=self.done)
        self._note_finished()

    def _open_recorder(self, console: Console) -> StudyRecorder:
        with console.status("opening Optuna's and MLflow's databases"):
            # imports Optuna and MLflow, which takes two seconds
            from harness.sweep.study_recorder import StudyRecorder

            known = {name: self.store.manifest[name] for name in OF_ACTIVATIONS}
            say = _say(console)
            measured = self.measurements, self.latents
            return StudyRecorder(self.study, self.workspace, known, say, self.pruner, *measured)

    def _note_finished(self) -> None:
        """Say what the databases hold, if nothing is missing in them."""
        if self.done:
            write_atomically(
                self.workspace.finished(self.study.name), self._in_databases(list(self.cells.values()))
            )

    def _finished_before(self) -> bool:
        """Whether all cells are done and the databases are known to have exactly these; if so, adds them."""
        found = self._known()
        cells = found.cells
        path = self.workspace.finished(self.study.name)
        if not found.final or not path.exists() or path.read_bytes() != self._in_databases(cells):
            return False
        if any(self._folder(cell.id).result() is None or self._to_measure(cell) for cell in cells):
            return False
        self.cells = {cell.id: cell for cell in cells}
        self.progress.done = len(cells)
        return True

    def _in_databases(self, cells: list[CellSpec]) -> bytes:
        """Identifies what the databases hold about finished cells, and the databases themselves."""
        said = [
            [cell.id, cell.label, cell.phase, cell.arm, cell.tuned, self._outcome(cell)] for cell in cells
        ]  # another study may have trained or measured its cells again
        measured = [[one.function, one.code, one.held_out] for one in self.measurements]
        databases = self.workspace.databases(self.study.name)
        latents = sorted(self.latents.known().items())
        known = [self.study.question, sorted(said, key=str), measured, databases, latents]
        return fingerprint(known).encode()

    def _folder(self, cell: str) -> CellFolder:
        return CellFolder(self.workspace.cell(cell), self.study.pruned_by)

    def _known(self) -> Known:
        """The cells that are known from what is on disk."""
        return self.known(lambda cell: self._folder(cell).score())

    def _outcome(self, cell: CellSpec) -> str:
        return fingerprint(self._folder(cell.id).outcome(self.measurements, cell.recipe))

    def _to_measure(self, cell: CellSpec) -> bool:
        return self._folder(cell.id).to_measure(self.measurements, cell.recipe)

    def _possible(self) -> set[str]:
        """All cells that the study may ask for, whatever the results are."""
        return {cell.id for cell in self._possible_cells()}

    def _possible_cells(self) -> list[CellSpec]:
        return possible_cells(self.study, self.store.fingerprint)

    def _roots(self) -> Roots:
        """Of the code that trains and measures its cells."""
        training = {root for _, recipe in recipes(self.study) for root in roots(recipe)}
        measuring = {root for one in self.measurements for root in (*COMMON_ROOTS[one.on], one.function)}
        return tuple(sorted({*training, *measuring}))

    def _shared_bytes(self) -> int:
        """Memory that every worker needs besides that of its cells: rows, windows, and language models if any."""
        store = self.store
        text = store.manifest.get("text")
        sizes = {name: text[name] for name in ("parameters", "tokens", "vocabulary")} if text else None
        measuring = language_model_bytes(**sizes) if sizes else 0
        return measuring + of_worker(
            store.tokens("held_out"),
            min(store.window, store.tokens("train")),
            store.width + (store.targets.width if store.targets else 0),
            store.itemsize,
            store.manifest.get("model_bytes", 0),
        )

    def _rounds(self) -> Iterator[list[CellSpec]]:
        """Cells to take up, until all are known; those of rounds that are done come with the next one's."""
        if not self.train:
            yield self._known().cells
            return
        cells: list[CellSpec] = []
        for new, found in rounds(self.known, lambda cell: self._folder(cell).score()):
            self._forget_cut_off(new)
            self.pruner.add(in_order(new, self._costs(new)))
            self.progress.cells = found.size
            self.progress.more = self.study.grows and not found.final
            self.progress.round = self._round(new)
            cells += new
            if any(self._folder(cell.id).result() is None or self._to_measure(cell) for cell in new):
                yield cells
                cells = []
        if cells:
            yield cells

    def _round(self, cells: list[CellSpec]) -> str:
        """What a round is for, where a study has several kinds of them."""
        phase = "tuning" if any(cell.phase == "tuning" for cell in cells) else "reported"
        seeds = {cell.recipe.seed for cell in cells}
        looks = self.study.looks
        look = next((number for number, seen in enumerate(looks, start=1) if seeds <= {*seen}), len(looks))
        words = [phase] if self.study.tuning_seeds else []
        if len(looks) > 1 and phase == "reported":
            words.append(f"look {look} of {len(looks)}")
        return ", ".join(words)

    def _costs(self, cells: list[CellSpec]) -> dict[str, Cost]:
        sizes = (self.store.width, self.study.known_features, self.study.source.stored.target_width)
        on_gpu = self.options.devices[0] != "cpu"
        return {cell.id: cost(cell.recipe, *sizes, on_gpu=on_gpu) for cell in cells}

    def _take_up(self, cells: list[CellSpec]) -> tuple[dict[str, CellSpec], dict[str, Cost]]:
        """Add cells and count those with a result. Returns the others by id, and the costs of all."""
        self.cells |= {cell.id: cell for cell in cells}
        costs = self._costs(cells) | {cell.id: self._measuring(cell) for cell in cells if self._to_measure(cell)}
        left = {}
        for cell in in_order(cells, costs):
            if self.recorder.add(cell):
                self.progress.done += 1
            elif self.train or self._folder(cell.id).result() is not None:
                left[cell.id] = cell
        return left, costs

    def _measuring(self, cell: CellSpec) -> Cost:
        """What measuring a trained cell takes: coding each held-out token, without training on it."""
        price = self._costs([cell])[cell.id]
        return replace(price, tokens=round(FORWARD * self.store.tokens("held_out")))


def _say(console: Console) -> Callable[[str], Any]:
    """Prints a line for the user, as it is."""
    return partial(console.print, soft_wrap=True, markup=False, highlight=False)


def read_lock(path: Path) -> str | None:
    """The process that holds this lock of a study, or None."""
    return path.read_text() if is_held(path) else None
