"""A database that may be away for a while: what it is to be told is kept in order, and told when it is back."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException
from optuna.exceptions import OptunaError, StorageInternalError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from urllib3.exceptions import HTTPError

from harness.backoff import backoff
from harness.errors import UserError
from harness.scheduling.database_files import damage_of, shown
from harness.scheduling.display import duration
from harness.secrets import masked

LONGEST_PAUSE = 30.0  # seconds between two tries
GIVE_UP = 3600.0  # seconds
AGAIN = "nothing is lost: the same command goes on from here, and makes it anew from the cells' folders"
# Of what SQLAlchemy says, here or in a server's answer: the driver's class, the statement, a link for developers
WRAPPING = re.compile(r"\((?:sqlite3|psycopg)[\w.]*\) |\[SQL: .*|\(Background on this error .*")
TEMPORARY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")  # of MLflow's error codes


class Account:
    """Optuna's database or MLflow's. Whatever it is told must do no harm when it is told again.

    refresh: reads again what the database holds, since after an error nobody knows what has arrived.
    say: takes a line for people.
    """

    def __init__(self, what: str, url: str, refresh: Callable[[], Any], say: Callable[[str], Any]) -> None:
        self._name = f"{what} at {shown(url)}"
        self._refresh = refresh
        self._say = say
        self._untold: deque[Callable[[], Any]] = deque()
        self._away_since: float | None = None
        self._pauses = backoff(LONGEST_PAUSE)
        self._next_try = 0.0

    def tell(self, act: Callable[[], Any]) -> None:
        """Do this now, or as soon as the database is there and knows what came before."""
        self._untold.append(act)
        if self._away_since is None:
            self._work_off()

    def catch_up(self) -> None:
        """Try again, where it is time to. Raises UserError once the database has been away for too long."""
        if self._away_since is not None and time.monotonic() >= self._next_try:
            self._work_off()

    def settle(self) -> None:
        """Wait until everything is told. Raises UserError as `catch_up` does."""
        while self._untold:
            time.sleep(0.1)
            self.catch_up()

    def _work_off(self) -> None:
        try:
            if self._away_since is not None:
                self._refresh()
            while self._untold:
                self._untold[0]()
                self._untold.popleft()
        except (OptunaError, SQLAlchemyError, MlflowException) as error:
            if damage := damage_of(error):
                raise UserError(f"{self._name} cannot be read any more ({damage}); {AGAIN}") from None
            if not is_outage(error):
                raise
            self._wait(error)
        else:
            self._welcome()

    def _wait(self, error: Exception) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._say(f"{self._name} is away: {reason_of(error)}. Training goes on; it is told everything later.")
        elif now - self._away_since > GIVE_UP:
            away = duration(now - self._away_since)
            raise UserError(f"{self._name} has been away for {away}; nothing is lost: run again when it is back")
        self._next_try = time.monotonic() + next(self._pauses)

    def _welcome(self) -> None:
        if self._away_since is not None:
            self._say(f"{self._name} is back after {duration(time.monotonic() - self._away_since)}, and told.")
        self._away_since, self._pauses = None, backoff(LONGEST_PAUSE)


def is_outage(error: Exception) -> bool:
    """Whether the same may go well later: not where the database understood what it was told, and refused.

    What was deleted in MLflow's UI meanwhile is restored when it is read again.
    """
    if damage_of(error):
        return False
    if "must be in the 'active' state" in str(error):
        return True
    if isinstance(error, MlflowException):
        return error.error_code in TEMPORARY or isinstance(error.__cause__, DBAPIError)
    return isinstance(error, StorageInternalError | SQLAlchemyError)


def reason_of(error: BaseException) -> str:
    """The innermost reason, in one line without passwords and without the statement that met with it."""
    reason: Any = error
    while cause := _cause(reason):
        reason = cause
    said = reason.strerror if isinstance(reason, OSError) else None
    words = " ".join(str(said or reason).split())
    return masked(WRAPPING.sub("", words))


def _cause(error: Any) -> Any:
    """What an error of SQLAlchemy, Optuna or MLflow, or of a connection, was raised for."""
    if isinstance(error, OptunaError | SQLAlchemyError | MlflowException | OSError | HTTPError):
        return getattr(error, "orig", None) or error.__cause__ or error.__context__
    return None
