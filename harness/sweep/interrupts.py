"""Ctrl-C, SIGTERM and SIGHUP (the terminal was closed) during a sweep.

Python drops a KeyboardInterrupt that is raised in a destructor or in a callback of a weak reference, of which
SQLAlchemy has one for each row. So the signal is also remembered.
"""

from __future__ import annotations

import signal
import sys


class Interrupts:
    """Handles these signals from now on, except those that were ignored before, such as SIGHUP under `nohup`."""

    def __init__(self) -> None:
        self._came = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on)
        sys.unraisablehook = _report_unless_interrupt

    def _on(self, number: int, _: object) -> None:
        """Raise KeyboardInterrupt once: closing a terminal sends two SIGHUPs, a scheduler several SIGTERMs.

        A second Ctrl-C raises it again: the user does not want to wait.
        """
        if self._came and number != signal.SIGINT:
            return
        self._came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has arrived."""
        if self._came:
            raise KeyboardInterrupt


def _report_unless_interrupt(dropped: sys.UnraisableHookArgs) -> None:
    """What Python does with an exception that it drops, but for an interrupt, which is remembered."""
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
