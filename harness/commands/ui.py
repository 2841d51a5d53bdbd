"""`harness ui`: Optuna's dashboard and MLflow's UI, side by side, until Ctrl-C."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.command import databases_arguments, port, workspace_of
from harness.databases import find_artifacts
from harness.errors import UserError
from harness.secrets import masked

if TYPE_CHECKING:
    from harness.workspace import Workspace

START_SECONDS = 60.0
STORAGE = "HARNESS_UI_STORAGE"

Server = tuple[list[str], dict[str, str]]  # command, and environment with the URLs: every user can see a command


def ui_arguments(parser: ArgumentParser) -> None:
    databases_arguments(parser)
    parser.add_argument("which", nargs="?", choices=("optuna", "mlflow"), help="default: both")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--optuna-port", type=port, default=8080)
    parser.add_argument("--mlflow-port", type=port, default=5000)


def ui(options: Namespace, console: Console) -> None:
    ports = {"optuna": options.optuna_port, "mlflow": options.mlflow_port}
    serve(
        workspace_of(options),
        options.host,
        {which: ports[which] for which in ([options.which] if options.which else ports)},
        console,
    )


def serve(workspace: Workspace, host: str, ports: dict[str, int], console: Console) -> None:
    """Start the servers (`optuna`, `mlflow`) on their ports, print their URLs, and end them with this process.

    Raises UserError if there is nothing to show, if a port is taken, or if a server does not start.
    """
    if "mlflow" in ports and workspace.tracking.startswith("http"):
        console.print(f"{NAMES['mlflow']}: {masked(workspace.tracking)}   (serves itself)", soft_wrap=True)
        ports = {which: number for which, number in ports.items() if which != "mlflow"}
        if not ports:
            return
    urls = {"optuna": workspace.storage_url, "mlflow": workspace.tracking_url}
    if any(urls[which] is None and not (workspace.runs / f"{which}.db").exists() for which in ports):
        raise UserError(f"{workspace.runs}: expected a sweep's databases; `harness run STUDY` makes them")
    if "mlflow" in ports and workspace.tracking_url is None:
        with suppress(sqlite3.Error):  # what is wrong with the file, MLflow says in its log
            find_artifacts(workspace.runs / "mlflow.db", workspace.artifacts)
    workspace.runs.mkdir(parents=True, exist_ok=True)
    for which, number in ports.items():
        if _answers(host, number):
            raise UserError(f"--{which}-port: expected a free port, {number} is taken")
    log = workspace.runs / "ui.log"
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for which, number in ports.items():
            servers.append(_start(COMMANDS[which](workspace, host, number), log))
        for (which, number), server in zip(ports.items(), servers, strict=True):
            url = f"http://{host}:{number}/"
            with console.status(f"starting {NAMES[which]}"):
                _wait_for(url, server, NAMES[which], log)
            for page in PAGES[which](url):
                console.print(f"{NAMES[which]}: {page}", soft_wrap=True)
        console.print("Ctrl-C ends it")
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        raise UserError(f"{log}: says why a server ended by itself")
    except KeyboardInterrupt:
        console.print("ended")
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


def _optuna(workspace: Workspace, host: str, port: int) -> Server:
    code = (
        "import os, sys; from optuna_dashboard._cli import main; "
        f"sys.argv.insert(1, os.environ.pop('{STORAGE}')); main()"
    )
    command = [sys.executable, "-c", code, "--host", host, "--port", str(port)]
    return command, {STORAGE: workspace.storage}


def _mlflow(workspace: Workspace, host: str, port: int) -> Server:
    address = ["--host", host, "--port", str(port), "--workers", "1"]
    store = {
        "MLFLOW_BACKEND_STORE_URI": workspace.tracking,
        "MLFLOW_ARTIFACTS_DESTINATION": workspace.artifacts.absolute().as_uri(),
    }
    return [sys.executable, "-m", "mlflow", "server", *address], store


def _mlflow_pages(url: str) -> list[str]:
    """The page of each study: MLflow's front page shows traces of chats instead."""
    with urllib.request.urlopen(f"{url}api/2.0/mlflow/experiments/search?max_results=100", timeout=30) as answer:
        experiments = json.load(answer).get("experiments", [])
    studies = [e for e in experiments if e["name"] != "Default"]
    return [
        f"{url}#/experiments/{e['experiment_id']}/runs?workflowType=machine_learning   ({e['name']})"
        for e in studies
    ] or [url]


NAMES = {"optuna": "Optuna's dashboard", "mlflow": "MLflow's UI"}
PAGES: dict[str, Callable[[str], list[str]]] = {
    "optuna": lambda url: [f"{url}dashboard/"],
    "mlflow": _mlflow_pages,
}
COMMANDS = {"optuna": _optuna, "mlflow": _mlflow}


def _start(server: Server, path: Path) -> subprocess.Popen[bytes]:
    command, environment = server
    with path.open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
        )


def _answers(host: str, port: int) -> bool:
    """Whether something listens there already. Raises UserError for a host that is none."""
    try:
        with socket.socket() as probe:
            return probe.connect_ex((host, port)) == 0
    except (OSError, UnicodeError):
        raise UserError(f"--host: expected a name or an IPv4 address of this machine, got {host!r}") from None


def _wait_for(url: str, server: subprocess.Popen[bytes], what: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise UserError(f"{log}: says why {what} did not start")
