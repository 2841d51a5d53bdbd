"""A study in Optuna's database, which others may use, too: whose it is, and who runs it."""

from __future__ import annotations

import hashlib
from typing import Any

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from harness.errors import UserError
from harness.scheduling.claims import belongs_to
from harness.scheduling.database_files import shown

CONNECT_SECONDS, ANSWER_SECONDS = 10, 30  # until a server that does not answer counts as away


def open_storage(url: str) -> RDBStorage:
    """The database, made ready for Optuna; a connection that has been lost meanwhile is opened again.

    Raises UserError if it is one of another version of Optuna.
    """
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, **limits(url)})
    except RuntimeError as error:
        raise UserError(f"{shown(url)}: {error}") from None


def create_tables(url: str) -> None:
    """Make Optuna's tables where they are not there yet."""
    open_storage(url).engine.dispose()


def limits(url: str) -> dict[str, Any]:
    """What SQLAlchemy is told of how long to wait for a server."""
    if make_url(url).get_backend_name() != "postgresql":
        return {}
    return {"connect_args": {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 1000 * ANSWER_SECONDS}}


def open_study(storage: RDBStorage, name: str, axes: str, owner: str | None) -> optuna.Study:
    """The study of this name and these axes, of which Optuna lets none change: with others it is another study.

    owner: the workspace, where others may use the database, too. A study of somebody else's raises UserError, and
    nothing is ever deleted there; in a database of the workspace's own, what does not fit is made anew.
    """
    sampler = optuna.samplers.RandomSampler()  # never asked: every trial's values are given
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        sampler=sampler,
        direction="minimize",
        load_if_exists=True,
    )
    known = study.user_attrs
    if owner is not None and known.get("owner", owner if not study.get_trials(deepcopy=False) else None) != owner:
        raise belongs_to(f"study {name!r} in Optuna's database", known.get("workspace"), "--storage")
    if known.get("axes", axes) != axes:
        if owner is None:
            optuna.delete_study(study_name=name, storage=storage)
            return open_study(storage, name, axes, owner)
        return open_study(storage, f"{name} {hashlib.sha256(axes.encode()).hexdigest()[:6]}", axes, owner)
    return study


class ControllerLock:
    """On a server, a lock that lives as long as its connection; elsewhere the lock file alone has to do."""

    def __init__(self, engine: Engine, study: str) -> None:
        self._engine = engine
        self._key = int.from_bytes(hashlib.sha256(f"harness {study}".encode()).digest()[:8], signed=True)
        self._connection: Connection | None = None

    def held(self) -> bool:
        """Whether this process holds the lock: taken, or taken again where the connection has been lost."""
        if self._engine.dialect.name != "postgresql":
            return True
        if self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
                return True
            except DBAPIError:
                self._connection.invalidate()
                self._connection.close()
                self._connection = None
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}):
            self._connection = connection
            return True
        connection.close()
        return False

    def release(self) -> None:
        """Let the next controller have it."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
