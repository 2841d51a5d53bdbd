"""MLflow's client: quiet, without retries of its own; searches that end; tables of a new database."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import mlflow.store.db.utils
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from harness.databases import ANSWER_SECONDS


def quieten() -> None:
    """Have MLflow raise errors at once, and print nothing."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it announces new databases
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # logs errors with the URL
    # Otherwise it prints the URL of every run that ends, with the password of the server.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # MLflow would wait minutes for a server that cannot be reached; `RetryQueue` waits instead, and says so.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ANSWER_SECONDS))
    mlflow.store.db.utils.MAX_RETRY_COUNT = 1


def create_tables(url: str, artifacts: Path) -> None:
    """Make MLflow's tables in a database if they do not exist."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    quieten()
    try:
        SqlAlchemyStore(url, artifacts.absolute().as_uri())
    finally:
        if engine := SqlAlchemyStore._engine_map.pop(url, None):
            engine.dispose()  # MLflow keeps it by its URL, even if the file is replaced


def open_client(uri: str) -> MlflowClient:
    """A client of MLflow's database or server."""
    quieten()
    return MlflowClient(tracking_uri=uri)


def search(client: MlflowClient, experiment: str, query: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """All runs of an experiment that match the query."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment], query, view, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
