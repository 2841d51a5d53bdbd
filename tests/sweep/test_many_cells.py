"""Studies of thousands of cells: the first are trained while the rest still get their trials."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.records import Instant
from harness.activations.store import ActivationStore
from harness.commands.cells import known_cells
from harness.study.spec import load_study
from harness.sweep.controller import Sweep
from harness.sweep.dispatcher import Options
from harness.workspace import Workspace
from tests.sweep.recorded import mlflow_runs, trials

CELLS = 2_000


def trials_so_far() -> int:
    with closing(sqlite3.connect("runs/optuna.db")) as file:
        return int(file.execute("SELECT count(*) FROM trials").fetchone()[0])


class Waiting(Instant):
    """Notes how many trials there are when the first cell is handed out, and ends the sweep at the second."""

    def __init__(self) -> None:
        super().__init__(10)
        self.trials: list[int] = []

    def submit(self, slot, job):
        self.trials.append(trials_so_far())
        if len(self.trials) > 1:
            raise KeyboardInterrupt
        super().submit(slot, job)


def sweep(study: Path, engine: Instant) -> Sweep:
    given = load_study(study)
    store = ActivationStore.open(Path("data/random/activations"))
    options = Options(1, 1, ("cpu",), 1e9, 1e9, cohort=1)
    workspace = Workspace(Path())
    return Sweep(given, known_cells(given, store, workspace), store, workspace, options, lambda *_: engine)


@pytest.fixture
def large_study(small_study) -> Path:
    text = small_study.read_text().partition("seeds:")[0].replace("    tune: true\n", "")
    small_study.write_text(f"{text}seeds: {list(range(CELLS // 4))}\n")
    return small_study


@pytest.mark.chaos
def test_the_first_of_many_cells_waits_for_no_trial_but_its_own(large_study):
    engine = Waiting()
    with suppress(KeyboardInterrupt):
        sweep(large_study, engine).run(Console(quiet=True))
    assert engine.trials[0] == 1
    assert 1 <= engine.trials[1] < CELLS / 4  # in POLL seconds


@pytest.mark.chaos
def test_all_cells_have_their_trials_in_the_end(large_study):
    large_study.write_text(large_study.read_text().replace(str(list(range(CELLS // 4))), "[0, 1, 2, 3, 4]"))
    assert sweep(large_study, Instant(10)).run(Console(quiet=True)).done == 20
    assert [trial.state.name for trial in trials(Path())] == ["COMPLETE"] * 20
    assert len(mlflow_runs(Path())[0]) == 20
