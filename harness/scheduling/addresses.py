"""Where Optuna's and MLflow's databases are: URLs, checked at the edge, whose credentials nobody gets to see."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from harness.errors import UserError
from harness.secrets import masked, remember

EXAMPLE = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"
# psycopg 3 is the driver that the extra `postgresql` installs
SCHEMES = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


def storage_url(text: str, option: str) -> str:
    """The database of Optuna's ledger, for SQLAlchemy. Raises UserError; `option` says where it was given."""
    return _database(text, option, EXAMPLE)


def tracking_url(text: str, option: str) -> str:
    """Where MLflow keeps its runs: an `http` or `https` server, or a database. Raises UserError."""
    if not text.startswith(("http://", "https://")):
        return _database(text, option, f"http://HOST:PORT, {EXAMPLE}")
    remember(text)
    try:
        found = urlsplit(text)
        valid = bool(found.hostname) and found.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"{option}: expected a URL such as http://HOST:PORT, got {masked(text)}")
    return text.rstrip("/")


def check_apart(storage: str, tracking: str) -> None:
    """Raise UserError if both tools were to use one database: either would take the other's tables for its own."""
    if _identity(storage) == _identity(tracking):
        raise UserError(
            f"--tracking: expected another database than --storage, got {masked(tracking)} for both: "
            "Optuna and MLflow both keep a table 'alembic_version'"
        )


def _database(text: str, option: str, expected: str) -> str:
    scheme, _, rest = text.partition("://")
    remember(text)
    try:
        url = make_url(f"{SCHEMES.get(scheme, scheme)}://{rest}")
        dialect = url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UserError(f"{option}: expected {expected}, got {masked(text)}") from None
    if scheme == "sqlite" and not (url.database and Path(url.database).absolute().parent.is_dir()):
        raise UserError(f"{option}: expected a file in a folder that is there, got {masked(text)}")
    if importlib.util.find_spec(module := dialect.driver.replace("pysqlite", "sqlite3")) is None:
        hint = "; pip install 'harness[postgresql]' brings it" if module == "psycopg" else ""
        raise UserError(f"{option}: {scheme}:// needs the package {module}, which is not installed{hint}")
    return url.render_as_string(hide_password=False)


def _identity(url: str) -> tuple[object, ...]:
    if url.startswith("http"):
        return (url,)
    parsed = make_url(url)
    if parsed.host is None and parsed.database:
        return parsed.get_backend_name(), Path(parsed.database).absolute()
    return (
        parsed.get_backend_name(),
        parsed.host,
        parsed.port or 5432,
        parsed.database,
        parsed.query.get("options"),
    )
