"""A signal stops a sweep wherever it arrives."""

import signal
import sys

import pytest

from harness.sweep.interrupts import Interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers_as_before():
    before, hook = {number: signal.getsignal(number) for number in SIGNALS}, sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)


class Signalled:
    """An object in whose destructor a signal arrives."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)
        for _ in range(1000):  # the handler runs between two instructions of this
            pass


@pytest.mark.parametrize("number", SIGNALS)
def test_it_is_raised_where_it_arrives(number):
    interrupts = Interrupts()
    interrupts.check()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_another_one_does_not_disturb_the_checkpointing_unless_it_is_ctrl_c():
    interrupts = Interrupts()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()


class Broken:
    """An object whose destructor fails."""

    def __del__(self) -> None:
        raise ValueError("broken")


@pytest.mark.parametrize("number", SIGNALS)
def test_one_that_a_destructor_drops_is_remembered_and_no_other_error_is_hidden(number, capsys):
    interrupts = Interrupts()
    Signalled(number)
    assert not capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()
    Broken()
    assert "ValueError: broken" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["background job", "nohup"])
def test_one_that_was_ignored_stays_so(number):
    signal.signal(number, signal.SIG_IGN)
    interrupts = Interrupts()
    signal.raise_signal(number)
    interrupts.check()
