"""`provenance.json` of a results folder: when, where and with which code its cells were trained.

Apart from study.json, which the same study writes alike everywhere: what depends on the day and the machine stands
here alone, and is written when the cells change.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import harness
from harness.files import write_json

FILE = "provenance.json"
PACKAGES = ("harness", "torch", "numpy")


def write_provenance(results: Path, cells: Iterable[str], folders: Iterable[Path]) -> None:
    """Write what is known now. `cells`: ids of the study's; `folders`: of these cells, in runs/."""
    record = {
        "date": _date(folders),
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "processor": _processor(),
        "cells shared with other studies": _shared(results, set(cells)),
    }
    write_json(results / FILE, {name: value for name, value in record.items() if value is not None})


def _date(folders: Iterable[Path]) -> str | None:
    """The day, in UTC, on which the last cell ended."""
    ends = [file.stat().st_mtime for folder in folders if (file := folder / "result.json").exists()]
    return datetime.fromtimestamp(max(ends), UTC).date().isoformat() if ends else None


def _commit() -> str | None:
    """Of the repository that has this package's code, and whether that was changed since.

    None for an installed copy: the repository in whose environment it lies, if any, says nothing about it.
    """
    package = Path(harness.__file__).parent
    try:
        _git(package, "ls-files", "--error-unmatch", "--", "__init__.py")
        head = _git(package, "rev-parse", "--short=12", "HEAD")
        return f"{head} with changes" if _git(package, "status", "--porcelain", "--", ".") else head
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or another one
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """Of the machine that ran the sweep; on a cluster, of the one with the controller."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(names, "") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _shared(results: Path, cells: set[str]) -> dict[str, int]:
    """By study: how many of the cells are also cells of the other results beside these.

    They were trained once: what two studies say of such cells is no replication.
    """
    shared = {}
    for path in sorted(results.resolve().parent.glob("*/cells.jsonl")):
        if path.parent.name != results.name and (count := len(cells & set(_ids(path)))):
            shared[path.parent.name] = count
    return shared


def _ids(path: Path) -> Iterable[str]:
    """Of the cells in another study's results; none where these are damaged."""
    try:
        lines: list[Any] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [str(line["cell"]) for line in lines if line["state"] == "complete"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
