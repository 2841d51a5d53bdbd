"""Errors and names where several controllers or workspaces want the same study."""

from __future__ import annotations

import json
import time
from collections.abc import Container
from itertools import chain, count
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.study.spec import Study

if TYPE_CHECKING:
    from harness.workspace import Workspace


def already_running(study: Study, by: str) -> UserError:
    watch = f"harness status {study.file.path} --follow"
    return UserError(f"{study.name}: already being run by {by}; to watch it: {watch}")


def check_name(study: Study, workspace: Workspace) -> None:
    """Raise UserError if the last run under this study's name was of another file that still exists."""
    try:
        other = json.loads(workspace.asked(study.name).read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if other != workspace.file(study.file.path) and (workspace.root / other).exists():
        taken = f"the study {study.name!r} of this workspace is {other}"
        raise UserError(f"{study.file.path}: expected a file of another name: {taken}")


def belongs_to(what: str, workspace: str | None, option: str) -> UserError:
    expected = f"a study file of another name, or a database of your own ({option})"
    return UserError(f"{what} belongs to {workspace or 'another workspace'}; expected {expected}")


def name_aside(name: str, taken: Container[str]) -> str:
    """The new name of a study that has figures of cells which its file no longer asks for."""
    until = f"{name} (until {time.strftime('%F %T')})"
    return next(new for new in chain([until], (f"{until} {n}" for n in count(2))) if new not in taken)
