"""Creates Optuna's and MLflow's databases, one process at a time.

An SQLite file is complete or does not exist: it is made under another name, and renamed.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from harness.errors import UserError
from harness.locks import exclusive
from harness.secrets import masked

# With the name of the driver: for a plain `sqlite:///` URL MLflow makes the folders of the still quoted path.
SQLITE = "sqlite+pysqlite:///"
CONNECT_SECONDS, ANSWER_SECONDS = 10, 30  # until a server that does not answer counts as unreachable
PATIENCE = 300.0  # seconds to wait for another process that creates the same database
# SQLite's error codes for a damaged file, as opposed to busy, full, read-only, ...: tables that are missing or
# incomplete, damaged pages, another kind of file
DAMAGE = (1, 11, 26)
BESIDE = ("-journal", "-wal", "-shm")  # suffixes of the files that SQLite keeps next to a database


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file for SQLAlchemy, whatever characters there are in its path."""
    return SQLITE + quote(str(path))


def sqlite_file(url: str) -> Path | None:
    """The SQLite file of a URL as `sqlite_url` gives it, or None for that of a server."""
    return Path(unquote(url.removeprefix(SQLITE).partition("?")[0])) if url.startswith(SQLITE) else None


def shown(url: str) -> str:
    """A database as shown to the user: its file, or its URL without the password."""
    return str(sqlite_file(url) or masked(url))


def records(path: Path, query: str, name: str) -> tuple[int, int]:
    """The inode of an SQLite file and the count that a query returns; zeros if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            (count,) = file.execute(query, (name,)).fetchone()
            return path.stat().st_ino, count
    except (OSError, sqlite3.Error):
        return 0, 0


def find_artifacts(file: Path, artifacts: Path) -> None:
    """Have a workspace's own database, an SQLite file, name the folder where its artifacts are now.

    MLflow keeps absolute paths. Once the workspace has been moved or copied, these are of a folder that is gone,
    or of the workspace that it was copied from.
    """
    place, inside = artifacts.absolute().as_uri(), f"/{artifacts.parent.name}/{artifacts.name}"
    with closing(sqlite3.connect(file)) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = :place || substr({column}, instr({column}, :inside) + :length) "
                f"WHERE instr({column}, :inside) > 0 AND instr({column}, :place) != 1",
                {"place": place, "inside": inside, "length": len(inside)},
            )


def make_ready(url: str, create: Callable[[str], Any], *, ours: bool, say: Callable[[str], Any]) -> None:
    """Create a database if there is none, under a lock.

    create: makes the tables that a database does not have yet, given its URL.
    ours: the file belongs to this workspace alone, so one that cannot be read is renamed and made again. Otherwise
    that raises UserError.
    """
    if url.startswith("http"):
        return
    path = sqlite_file(url)
    if path is None:
        with _alone_on_server(url):
            create(url)
        return
    with exclusive(path.with_name(f".{path.name}.lock"), PATIENCE) as alone:
        if not alone:
            raise UserError(f"{path}: another process has been creating it for {PATIENCE:.0f} seconds")
        if path.exists() and path.stat().st_size:
            damage = _damage(path, create)
            if damage is None:
                return
            if not ours:
                raise UserError(f"{path}: cannot be read ({damage}); expected a database, or no file of this name")
            kept = _move_aside(path)
            say(f"{path} cannot be read ({damage}): kept as {kept.name}, and made again from the cells' folders")
        _make(path, create)


def damage_of(error: BaseException) -> str | None:
    """How an SQLite file is damaged, if that is the innermost cause of an error."""
    cause: Any = error
    while not isinstance(cause, sqlite3.Error):
        cause = getattr(cause, "orig", None) or cause.__cause__
        if cause is None:
            return None
    return str(cause) if getattr(cause, "sqlite_errorcode", 0) & 0xFF in DAMAGE else None


def _damage(path: Path, create: Callable[[str], Any]) -> str | None:
    """How a file is damaged, or None. Raises errors that are not about the file itself."""
    try:
        with closing(sqlite3.connect(path)) as file:
            (answer,) = file.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            return str(answer)
        create(sqlite_url(path))
    except Exception as error:
        if (damage := damage_of(error)) is None:
            raise
        return damage
    return None


def _move_aside(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}.unreadable-{number}")).exists():
        number += 1
    path.replace(kept)
    for ending in BESIDE:
        if (companion := path.with_name(path.name + ending)).exists():
            companion.replace(kept.with_name(kept.name + ending))
    return kept


def _make(path: Path, create: Callable[[str], Any]) -> None:
    beside = path.with_name(f".{path.name}.new")
    _remove(beside)
    try:
        create(sqlite_url(beside))
        _sync(beside)
    except BaseException:
        _remove(beside)  # to free its space
        raise
    for ending in BESIDE:  # left by a deleted file: SQLite would apply them to the new one
        path.with_name(path.name + ending).unlink(missing_ok=True)
    beside.replace(path)
    _sync(path.parent)


def _remove(path: Path) -> None:
    for ending in ("", *BESIDE):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def limits(url: str) -> dict[str, Any]:
    """SQLAlchemy's arguments for how long to wait for a server."""
    from sqlalchemy import make_url

    if make_url(url).get_backend_name() != "postgresql":
        return {}
    return {"connect_args": {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 1000 * ANSWER_SECONDS}}


@contextmanager
def _alone_on_server(url: str) -> Iterator[None]:
    """Hold a lock on the server while tables are made: if two processes make them at once, one of them fails."""
    from sqlalchemy import create_engine, text

    engine = create_engine(url, **limits(url))
    try:
        if engine.dialect.name != "postgresql":
            yield
            return
        key = int.from_bytes(hashlib.sha256(b"harness tables").digest()[:8], signed=True)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
            yield
    finally:
        engine.dispose()
