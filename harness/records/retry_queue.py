"""A queue of writes to a database that may be unreachable for a while."""

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
from harness.databases import damage_of, shown
from harness.errors import UserError
from harness.progress import duration
from harness.secrets import masked

LONGEST_PAUSE = 30.0  # seconds between two tries
GIVE_UP = 3600.0  # seconds for which a database may be unreachable
AGAIN = "nothing is lost: the same command continues from here, and makes it again from the cells' folders"
# Parts of SQLAlchemy's messages that users do not need: the driver's class, the statement, a link for developers
WRAPPING = re.compile(r"\((?:sqlite3|psycopg)[\w.]*\) |\[SQL: .*|\(Background on this error .*")
TEMPORARY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")  # of MLflow's error codes


class RetryQueue:
    """Writes to Optuna's or MLflow's database, in order. Repeating a write must do no harm.

    refresh: reads the database again, since after an error it is not known what has been written.
    say: prints a line for the user.
    """

    def __init__(self, what: str, url: str, refresh: Callable[[], Any], say: Callable[[str], Any]) -> None:
        self._name = f"{what} at {shown(url)}"
        self._refresh = refresh
        self._say = say
        self._queued: deque[Callable[[], Any]] = deque()
        self._away_since: float | None = None
        self._pauses = backoff(LONGEST_PAUSE)
        self._next_try = 0.0

    def put(self, act: Callable[[], Any]) -> None:
        """Write this now, or as soon as the database can be reached and has everything that came before."""
        self._queued.append(act)
        if self._away_since is None:
            self._run_queued()

    def catch_up(self) -> None:
        """Try again if it is time to. Raises UserError once the database has been unreachable for too long."""
        if self._away_since is not None and time.monotonic() >= self._next_try:
            self._run_queued()

    def flush(self) -> None:
        """Wait until everything is written. Raises UserError as `catch_up` does."""
        while self._queued:
            time.sleep(0.1)
            self.catch_up()

    def _run_queued(self) -> None:
        try:
            if self._away_since is not None:
                self._refresh()
            while self._queued:
                self._queued[0]()
                self._queued.popleft()
        except (OptunaError, SQLAlchemyError, MlflowException) as error:
            if damage := damage_of(error):
                raise UserError(f"{self._name} cannot be read any more ({damage}); {AGAIN}") from None
            if not is_outage(error):
                raise
            self._wait(error)
        else:
            self._back()

    def _wait(self, error: Exception) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._say(
                f"{self._name} cannot be reached: {reason_of(error)}. Training goes on; all is written later."
            )
        elif now - self._away_since > GIVE_UP:
            away = duration(now - self._away_since)
            raise UserError(
                f"{self._name} could not be reached for {away}; nothing is lost: run again when it is back"
            )
        self._next_try = time.monotonic() + next(self._pauses)

    def _back(self) -> None:
        if self._away_since is not None:
            away = duration(time.monotonic() - self._away_since)
            self._say(f"{self._name} is back after {away}, and up to date.")
        self._away_since, self._pauses = None, backoff(LONGEST_PAUSE)


def is_outage(error: Exception) -> bool:
    """Whether the same write may succeed later: not if the database understood and refused it.

    What was deleted in MLflow's UI in the meantime is restored when the database is read again.
    """
    if damage_of(error):
        return False
    if "must be in the 'active' state" in str(error):
        return True
    if isinstance(error, MlflowException):
        return error.error_code in TEMPORARY or isinstance(error.__cause__, DBAPIError)
    return isinstance(error, StorageInternalError | SQLAlchemyError)


def reason_of(error: BaseException) -> str:
    """The innermost reason in one line, without passwords and without the SQL statement."""
    reason: Any = error
    while cause := _cause(reason):
        reason = cause
    said = reason.strerror if isinstance(reason, OSError) else None
    words = " ".join(str(said or reason).split())
    return masked(WRAPPING.sub("", words))


def _cause(error: Any) -> Any:
    """The cause of an error of SQLAlchemy, Optuna or MLflow, or of a connection."""
    if isinstance(error, OptunaError | SQLAlchemyError | MlflowException | OSError | HTTPError):
        return getattr(error, "orig", None) or error.__cause__ or error.__context__
    return None
