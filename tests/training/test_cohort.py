"""A cohort: every cell's bits are those that it has alone, whatever becomes of its neighbours."""

import threading
from typing import Any

import pytest
import torch

from harness.study.catalogue import INPUTS, OPTIMIZERS, SPARSIFIERS
from harness.study.curve import POINTS
from harness.training.cell import Cell
from harness.training.checkpoint import Checkpoints
from harness.training.cohort import Cohort, Stopped
from harness.training.stream import Batch
from harness.training.trainer import Diverged, Stopwatch, train
from tests.training.cells import BATCH, DATA, SAMPLES, STEPS, batches, cell, measured, run

# No two alike: depth, width, optimizer, sparsifier, learning rate, k, length; all that draws or counts is on.
CHANGES: dict[str, dict[str, Any]] = {
    **{f"optimizer {name}": {"optimizer": name, "resample": 2 * BATCH, "aux_k": 3} for name in OPTIMIZERS},
    **{f"sparsifier {name}": {"layers": "dense 2-2", "sparsifier": name} for name in SPARSIFIERS},
    **{f"inputs {name}": {"layers": "sparse 2", "inputs": name} for name in INPUTS},
    "wide": {"latents": 128, "k": 9, "lr": 1e-2},
    "short": {"tokens": 7 * BATCH, "k_start": 20},
}


def trained(training: Any, cell: Cell) -> Any:
    """As `train`, but what ends a cell is kept beside its state."""
    try:
        yield from training
    except Exception as failure:
        return failure
    return measured(cell), cell.state()


def together(cells: dict[str, Cell], checkpoints=None, seconds=1e9, beat=lambda: None, source=batches):
    """What each cell came to, and its curve."""
    ends: dict[str, Any] = {}
    curves: dict[str, list] = {name: [] for name in cells}
    members = {
        name: trained(
            train(one, SAMPLES, checkpoints and checkpoints[name], curves[name].append, Stopwatch(), POINTS), one
        )
        for name, one in cells.items()
    }
    Cohort(members, ends.__setitem__).train(source, seconds, beat)
    return ends, curves


def assert_as_alone(name: str, end: Any, curve: list, tmp_path) -> None:
    one = cell(**CHANGES[name])
    expected, points = run(one, Checkpoints(tmp_path / name))
    quality, state = end
    assert quality == expected
    assert curve == points
    assert all(torch.equal(state[key], value) for key, value in one.state().items())


def assert_no_thread_reads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("read"):
            thread.join(10)
            assert not thread.is_alive()


def test_cells_that_are_all_different_have_the_same_bits_together_and_alone(tmp_path):
    before = DATA.clone()
    ends, curves = together({name: cell(**changes) for name, changes in CHANGES.items()})
    assert torch.equal(DATA, before)
    for name in CHANGES:
        assert_as_alone(name, ends[name], curves[name], tmp_path)


def test_cells_that_go_on_from_different_steps_see_the_batches_of_their_own(tmp_path):
    names = ["optimizer muon", "inputs unit_norm", "wide", "short"]
    behind = {name: cell(**CHANGES[name]) for name in names}
    for name, steps in zip(names, (0, 14, 3, 5), strict=True):
        for step in range(steps):
            behind[name].step(*batches(step))
    made: list[int] = []

    def source(step: int) -> Batch:
        made.append(step)
        return batches(step)

    ends, _ = together(behind, source=source)
    for name in names:
        one = cell(**CHANGES[name])
        run(one, Checkpoints(tmp_path / name))
        assert all(torch.equal(ends[name][1][key], value) for key, value in one.state().items())
    assert made == list(range(STEPS + 1))  # each once, and one ahead


def test_checkpoints_of_a_cohort_are_of_one_step(tmp_path):
    cells = {name: cell(**CHANGES[name]) for name in ("wide", "inputs centred")}
    checkpoints = {name: Checkpoints(tmp_path / name) for name in cells}
    together(cells, checkpoints, seconds=0.0)
    saved = {name: sorted(path.stem for path in (tmp_path / name).iterdir()) for name in cells}
    assert saved["wide"] == saved["inputs centred"] == [f"{step:09}" for step in (STEPS - 1, STEPS)]


def test_checkpoints_that_take_long_are_rare(monkeypatch):
    """A turn takes a second here, and checkpoints of both cells six, which are to be a fifth of the time."""
    now, saved = [0.0], []
    monkeypatch.setattr("harness.training.cohort.time.monotonic", lambda: now[0])

    def training(name: str) -> Any:
        for step in range(56):
            turn = yield step
            now[0] += 0.5
            if turn.save is not None:
                saved.append(step)
                now[0] += 3
                turn.save(3.0)

    cells = {name: training(name) for name in ("one", "two")}
    Cohort(cells).train(batches, 5.0, share=0.2)
    assert saved == [5, 5, 30, 30, 55, 55]  # the first after five seconds, the next after 24


@pytest.mark.parametrize("at", [0, 3, 11])
def test_a_cell_that_fails_leaves_the_others_as_they_would_be_alone(tmp_path, at):
    """By an error of its own in mid-step, by a loss that is no number, and out of memory for real."""
    names = ["optimizer soap", "wide", "short"]
    cells = {name: cell(**CHANGES[name]) for name in names}
    wrong, lost, large = cell(), cell(), cell()

    def broken(x: torch.Tensor, target: torch.Tensor) -> None:
        if wrong.step_index == at:
            raise ZeroDivisionError
        Cell.step(wrong, x)

    def poisoned(x: torch.Tensor, target: torch.Tensor) -> None:
        Cell.step(lost, x * torch.nan if lost.step_index == at else x)

    def swollen(x: torch.Tensor, target: torch.Tensor) -> None:
        torch.empty(2**60 if large.step_index == at else 1)
        Cell.step(large, x)

    wrong.step, lost.step, large.step = broken, poisoned, swollen  # type: ignore[method-assign]
    ends, curves = together({"wrong": wrong, names[0]: cells[names[0]], "lost": lost, "large": large} | cells)
    for name in names:
        assert_as_alone(name, ends[name], curves[name], tmp_path)
    assert isinstance(ends["wrong"], ZeroDivisionError)
    assert isinstance(ends["lost"], Diverged)
    assert "can't allocate memory" in str(ends["large"])


def test_a_cohort_that_is_told_to_stop_stops_every_cell_at_once():
    cells = {name: cell(**changes) for name, changes in CHANGES.items()}
    turns: list[int] = []

    def beat() -> None:
        turns.append(1)
        if len(turns) == 4 * len(cells) + 2:  # in mid-step
            raise Stopped

    ends, _ = together(cells, beat=beat)
    assert {type(end) for end in ends.values()} == {Stopped}
    assert [one.step_index for one in cells.values()] == [5, 5] + [4] * (len(cells) - 2)
    assert_no_thread_reads()


def test_batches_that_cannot_be_made_end_every_cell():
    def source(step: int) -> Batch:
        if step == 2:
            raise OSError("the disk is gone")
        return batches(step)

    ends, _ = together({name: cell(**CHANGES[name]) for name in ("wide", "short")}, source=source)
    assert [str(end) for end in ends.values()] == ["the disk is gone"] * 2
    assert_no_thread_reads()


def test_the_next_batch_is_made_while_the_current_one_trains():
    """A step waits for the batch of the next one: for ever, were they made one after the other."""
    made = [threading.Event() for _ in range(STEPS + 1)]
    one = cell()

    def source(step: int) -> Batch:
        made[step].set()
        return batches(step)

    def step(x: torch.Tensor, target: torch.Tensor) -> None:
        assert made[one.step_index + 1].wait(10)
        Cell.step(one, x)

    one.step = step  # type: ignore[method-assign]
    ends, _ = together({"one": one}, source=source)
    assert not isinstance(ends["one"], Exception)


def test_nothing_is_read_behind_the_last_step():
    read: list[int] = []

    def source(step: int) -> Batch:
        read.append(step)
        return batches(step)

    cells = {
        name: train(cell(**CHANGES[name]), SAMPLES, None, print, Stopwatch(), 1) for name in ("wide", "short")
    }
    Cohort(cells).train(source, 1e9, steps=STEPS)
    assert read == list(range(STEPS))


def test_a_cohort_that_waits_for_a_batch_can_be_told_to_stop():
    """Activations that are made on the way can take minutes."""
    go_on = threading.Event()

    def source(step: int) -> Batch:
        if step == 2:
            assert go_on.wait(60)
        return batches(step)

    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        if len(beats) == 4:  # two turns, and twice while it waits
            raise Stopped

    ends, _ = together({"wide": cell(**CHANGES["wide"])}, source=source, beat=beat)
    assert isinstance(ends["wide"], Stopped)
    go_on.set()
    assert_no_thread_reads()


def test_a_stopwatch_stands_still_while_a_cell_waits(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("harness.training.trainer.time.monotonic", lambda: now[0])
    clock = Stopwatch()
    now[0] = 5
    with clock.paused():
        now[0] = 65
    now[0] = 67
    assert clock.seconds == 7
