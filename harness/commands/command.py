"""What a command is, and arguments that several of them share."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.paths import check_folders

if TYPE_CHECKING:
    from harness.study.spec import Study
    from harness.workspace import Workspace

DATABASES = {"storage": "Optuna keeps its trials", "tracking": "MLflow keeps its runs"}


@dataclass(frozen=True)
class Command:
    """A command: its name, its arguments, and the function that runs it.

    online: it may use the Hugging Face hub, where a source or the user names something there. For all other
    commands the hub is off.
    """

    name: str
    help: str
    example: str
    arguments: Callable[[ArgumentParser], object]
    run: Callable[[Namespace, Console], object]
    online: bool = False


def study_argument(parser: ArgumentParser) -> None:
    parser.add_argument("study", type=Path, help="a study file, such as studies/depth.yaml")


def results_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, help="folder for the results (default: results/<study>)")


def workspace_of(options: Namespace) -> Workspace:
    from harness.workspace import Workspace

    workspace = Workspace(options.root, **_addresses(options))
    check_folders(workspace.root, workspace.data, workspace.runs)
    return workspace


def databases_arguments(parser: ArgumentParser) -> None:
    for name, use in DATABASES.items():
        rest = f"default: ${_variable(name)}, which keeps passwords off the command line, or a file in runs/"
        parser.add_argument(f"--{name}", metavar="URL", help=f"where {use} ({rest})")


def _addresses(options: Namespace) -> dict[str, str]:
    """URLs of databases that are not the workspace's own files, for commands that use databases.

    Removes the variables that hold them from the environment, because workers need no password.
    """
    given = {}
    for name in DATABASES:
        said = os.environ.pop(_variable(name), None)
        if text := getattr(options, name, None):
            given[name] = text, f"--{name}"
        elif name in options and said:
            given[name] = said, _variable(name)
    if not given:
        return {}
    from harness.records import urls as addresses
    from harness.workspace import Workspace

    check = {"storage": addresses.storage_url, "tracking": addresses.tracking_url}
    found = {f"{name}_url": check[name](text, said_by) for name, (text, said_by) in given.items()}
    workspace = Workspace(options.root, **found)
    addresses.check_apart(workspace.storage, workspace.tracking)
    return found


def _variable(name: str) -> str:
    return f"HARNESS_{name.upper()}"


def load(options: Namespace) -> tuple[Study, Workspace, Path]:
    from harness.records.ownership import check_name
    from harness.study.spec import load_study

    study = load_study(options.study)
    workspace = workspace_of(options)
    check_name(study, workspace)
    results = getattr(options, "results", None) or workspace.results(study.name)
    check_folders(study.source.store(workspace.data), workspace.cell(""), results)
    return study, workspace, results


MOST = 10_000  # workers, threads, cells of a cohort; more is a typing error that would exhaust the machine
LEAST_PATIENCE = 5.0  # seconds: a worker takes a few to import torch


def count(text: str) -> int:
    return _whole(text, MOST)


def port(text: str) -> int:
    return _whole(text, 65_535)


def _whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise ArgumentTypeError(f"expected a whole number from 1 to {most}, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    return _at_least(0.0, text)


def patience(text: str) -> float:
    return _at_least(LEAST_PATIENCE, text)


def _at_least(least: float, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value < float("inf"):
        expected = f"expected a number of seconds, {least:g} or more"
        raise ArgumentTypeError(f"{expected}, got {text!r}")
    return value
