"""What a person sees of a sweep: rates are those of this run's work, whatever is lost or taken up again."""

from io import StringIO

import pytest
from rich.console import Console

from harness.sweep import display
from harness.sweep.display import CellProgress, Display, SweepProgress


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    return now


def test_the_rate_is_that_of_training_whatever_is_lost_and_taken_up_again(clock):
    progress = SweepProgress("small", cells=2, work=2e6)
    shown = Display(progress, Console(file=StringIO()))

    def seconds_later(seconds: float) -> str:
        clock[0] += seconds
        shown.update()
        return shown._headline()

    progress.running["a"] = CellProgress(slot=0, label="a", total=100_000, work=1e6, tokens=0)
    seconds_later(0)
    progress.moved("a", 40_000)
    assert " 4k tokens/s" in seconds_later(10)
    del progress.running["a"]  # its worker was lost, and had saved half of it
    progress.running["a"] = CellProgress(slot=0, label="a", total=100_000, work=1e6)
    assert " 4k tokens/s" in seconds_later(0)
    progress.moved("a", 20_000)
    assert " 4k tokens/s" in seconds_later(0)
    progress.moved("a", 60_000)
    assert " 4k tokens/s" in seconds_later(10)
    progress.running["b"] = CellProgress(slot=1, label="b", total=100_000, work=1e6, tokens=0)
    progress.ended("a", 60_000)  # it diverged there: what it did not train on was not trained on
    assert " 4k tokens/s" in seconds_later(0)
    assert progress.finished_work() == 1e6
