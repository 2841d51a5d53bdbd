"""URLs of Optuna's and MLflow's databases: checked, and never shown with their credentials."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from harness.databases import shown, sqlite_file, sqlite_url
from harness.errors import UserError
from harness.secrets import masked, remember

EXAMPLE = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"
LOCAL = ("localhost", "127.0.0.1", "::1")
# psycopg 3 is the driver that the extra `postgresql` installs
SCHEMES = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


def storage_url(text: str, option: str) -> str:
    """The URL of Optuna's database for SQLAlchemy. Raises UserError; `option`: where the URL was given."""
    return _database(text, option, EXAMPLE)


def tracking_url(text: str, option: str) -> str:
    """The URL of MLflow's runs: an `http` or `https` server, or a database. Raises UserError."""
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
    """Raise UserError if both URLs are of one database: each tool would take the other's tables for its own."""
    if _identity(storage) == _identity(tracking):
        raise UserError(
            f"--tracking: expected another database than --storage, got {shown(tracking)} for both: "
            "Optuna and MLflow both keep a table 'alembic_version'"
        )


def _database(text: str, option: str, expected: str) -> str:
    scheme, _, rest = text.partition("://")
    if not scheme.startswith("sqlite"):  # a path may contain any character
        remember(text)
    try:
        url = make_url(f"{SCHEMES.get(scheme, scheme)}://{rest}")
        dialect = url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise UserError(f"{option}: expected {expected}, got {masked(text)}") from None
    if url.get_backend_name() == "sqlite":
        return sqlite_url(_file(url, text, option))
    if importlib.util.find_spec(module := dialect.driver) is None:
        hint = "; pip install 'harness[postgresql]' brings it" if module == "psycopg" else ""
        raise UserError(f"{option}: {scheme}:// needs the package {module}, which is not installed{hint}")
    return url.render_as_string(hide_password=False)


def _file(url: URL, text: str, option: str) -> Path:
    """The file of an SQLite URL. Raises UserError if it has no name, or its folder does not exist."""
    path = Path(url.database or ":memory:")
    if "?" in text or path.name == ":memory:" or not path.absolute().parent.is_dir():
        signs = "; in a URL %3F stands for a question mark and %25 for a percent sign" if {*"?%"} & {*text} else ""
        raise UserError(f"{option}: expected a file in a folder that exists, got {masked(text)}{signs}")
    return path


def _identity(url: str) -> tuple[object, ...]:
    """The same for two URLs of one database, as far as that is known without asking a server."""
    if url.startswith("http"):
        return (url,)
    if path := sqlite_file(url):
        return ("sqlite", path.stat().st_ino if path.exists() else path.resolve())
    parsed = make_url(url)
    host = "localhost" if parsed.host in LOCAL else parsed.host
    return parsed.get_backend_name(), host, parsed.port or 5432, parsed.database, parsed.query.get("options")
