"""What ends a cell as diverged: any figure that is no number, or an FVU beyond hope."""

import math

import pytest
import torch

from harness.training.checkpoint import Checkpoints
from harness.training.trainer import DIVERGED_FVU, Diverged, Stopwatch, check, resume, save
from tests.training.cells import cell, run


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["fvu", "nmse", "mcc", "l0"])
def test_a_figure_that_is_not_finite_is_named(name, wrong):
    figures = {"mse": 0.1, "fvu": 0.1, "nmse": 0.1, "mcc": 0.1, "l0": 4.0}
    check("held-out", figures, 640)
    with pytest.raises(Diverged, match=f"held-out {'FVU' if name == 'fvu' else name} {wrong:g} at 640 tokens"):
        check("held-out", figures | {name: wrong}, 640)


def test_fvu_has_a_bound_and_other_figures_have_none():
    check("held-out", {"fvu": DIVERGED_FVU, "mse": 1e9}, 640)
    with pytest.raises(Diverged, match="training FVU 101 at 640 tokens"):
        check("training", {"l0": 4.0, "fvu": 101.0}, 640)


@pytest.mark.parametrize("optimizer", ["adam", "schedule_free_adam"])
def test_an_update_that_explodes_is_noticed_at_the_next_point(tmp_path, optimizer):
    """The losses of all batches are fine: they are taken before the updates."""
    one = cell(optimizer=optimizer, tokens=32, lr=1e30, gradient_clip=None, dead_window=32)
    with pytest.raises(Diverged, match=r"held-out FVU (nan|inf) at 32 tokens"):
        run(one, Checkpoints(tmp_path))


def test_a_clock_goes_on_where_its_cell_does(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    first, second, other = Stopwatch(), Stopwatch(), cell(seed=1)
    resume(cell(), checkpoints, first, (), 7)  # there is nothing to go on from
    first.add(1234.5)
    save(cell(), checkpoints, first, 7)
    assert resume(other, checkpoints, second, (), 9) == 7  # the points that its curve was begun with
    assert 1234.5 < second.seconds < 1300
    ours, theirs = other.state(), cell().state()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_wait_that_ends_with_an_exception_is_no_time_of_the_cell(monkeypatch):
    """A cell is stopped while it waits for a batch, which may take a language model minutes to make."""
    now = [0.0]
    monkeypatch.setattr("harness.training.trainer.time.monotonic", lambda: now[0])
    clock = Stopwatch()

    def wait() -> None:
        with clock.paused():
            now[0] += 100
            raise KeyboardInterrupt

    now[0] += 1
    with pytest.raises(KeyboardInterrupt):
        wait()
    assert clock.seconds == 1
