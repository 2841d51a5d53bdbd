"""All calls of a study that have been answered, by what was asked; and what they came to.

An SQLite file, to which each answer is written as soon as it is there, so that no call is made twice, also if the
process is killed.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.files import retry_while_disk_is_full
from harness.interpretability.endpoint.client import Reply
from harness.study.judges import Prices

TABLES = """
BEGIN;
CREATE TABLE IF NOT EXISTS replies (call TEXT PRIMARY KEY, text TEXT, read INTEGER, written INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bill (model TEXT, kind TEXT, calls INTEGER, characters INTEGER, read INTEGER,
    written INTEGER, PRIMARY KEY (model, kind)) WITHOUT ROWID;
COMMIT;
"""
PATIENCE = 60.0  # seconds to wait for another process that writes
AT_ONCE = 500  # keys per query
MILLION = 1_000_000


class Bill(NamedTuple):
    """What calls come to. characters: of all prompts; read and written: tokens."""

    calls: float = 0
    characters: float = 0
    read: float = 0
    written: float = 0

    def plus(self, other: Bill) -> Bill:
        return Bill(*(mine + its for mine, its in zip(self, other, strict=True)))

    def times(self, number: float) -> Bill:
        return Bill(*(number * one for one in self))

    @property
    def tokens(self) -> float:
        return self.read + self.written

    def price(self, prices: Prices) -> float:
        return (self.read * prices.input + self.written * prices.output) / MILLION


class Answered(NamedTuple):
    """A call, what it was for, how long its prompt was, and the reply."""

    call: str
    kind: str
    characters: int
    reply: Reply


def total(bills: Iterable[Bill]) -> Bill:
    """The sum."""
    result = Bill()
    for bill in bills:
        result = result.plus(bill)
    return result


class Calls:
    """The file, for the thread that opens it; other processes may use it at the same time.

    Nothing is written before there is something to write: a file that is there may be read where it cannot be
    changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._readable():
            self._file = sqlite3.connect(path, timeout=PATIENCE)
            self._file.execute("PRAGMA synchronous = NORMAL")  # on a slow disk, several times as fast
            self._file.executescript(TABLES)

    def close(self) -> None:
        self._file.close()

    def find(self, calls: Sequence[str]) -> dict[str, Reply]:
        """The replies to those that have been made."""
        found: dict[str, Reply] = {}
        with self._readable():
            for start in range(0, len(calls), AT_ONCE):
                some = calls[start : start + AT_ONCE]
                marks = ", ".join("?" * len(some))
                rows = self._file.execute(f"SELECT * FROM replies WHERE call IN ({marks})", some)
                found |= {call: Reply(*reply) for call, *reply in rows}
        return found

    def add(self, model: str, answered: Sequence[Answered]) -> None:
        """Write replies and add them to the bill, all or none; waits while the disk is full."""
        retry_while_disk_is_full(self._path, partial(self._add, model, answered))

    def _add(self, model: str, answered: Sequence[Answered]) -> None:
        replies = [(one.call, *one.reply) for one in answered]
        bills = [(model, one.kind, one.characters, one.reply.read, one.reply.written) for one in answered]
        with self._readable(), self._file:
            self._file.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", replies)
            self._file.executemany(
                "INSERT INTO bill VALUES (?, ?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + 1, "
                "characters = characters + excluded.characters, read = read + excluded.read, "
                "written = written + excluded.written",
                bills,
            )

    def bill(self, model: str | None = None) -> dict[str, Bill]:
        """By kind of call; of one model, or of all."""
        with self._readable():
            rows = self._file.execute(
                "SELECT kind, sum(calls), sum(characters), sum(read), sum(written) FROM bill "
                "WHERE ?1 IS NULL OR model = ?1 GROUP BY kind",
                (model,),
            ).fetchall()
        return {kind: Bill(*numbers) for kind, *numbers in rows}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Raises OSError for a full disk, and UserError for anything else that is wrong with the file."""
        try:
            yield
        except sqlite3.Error as failure:
            if getattr(failure, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, str(failure), str(self._path)) from failure
            what = f"expected the answers of an endpoint, in a database that can be used: {failure}"
            raise UserError(f"{self._path}: {what}") from failure
