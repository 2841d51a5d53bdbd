"""Ctrl-C, SIGTERM and SIGHUP (the terminal is gone) for a sweep.

A KeyboardInterrupt is lost where Python drops whatever is raised: in destructors and in callbacks of weak
references, of which SQLAlchemy has one for each row. So it is also remembered.
"""

from __future__ import annotations

import signal


class Interrupts:
    """Takes these signals from now on; one that was ignored stays so, as SIGHUP under `nohup`."""

    def __init__(self) -> None:
        self._came = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on)

    def _on(self, number: int, _: object) -> None:
        """A terminal that is closed sends two SIGHUPs, a scheduler several SIGTERMs: they ask for the same thing.

        A second Ctrl-C is a person who does not want to wait.
        """
        if self._came and number != signal.SIGINT:
            return
        self._came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if one of them has come."""
        if self._came:
            raise KeyboardInterrupt
