"""Who runs a study, and whose it is, as others are told."""

from __future__ import annotations

import json
import time
from collections.abc import Container
from itertools import chain, count
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.study.spec import Study

if TYPE_CHECKING:
    from harness.scheduling.workspace import Workspace


def already_run(study: Study, by: str) -> UserError:
    watch = f"harness status {study.file.path} --follow"
    return UserError(f"{study.name}: already being run by {by}; to watch it: {watch}")


def check_name(study: Study, workspace: Workspace) -> None:
    """Raise UserError if the last run under the study's name was of another file, which is still there."""
    try:
        other = json.loads(workspace.asked(study.name).read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if other != workspace.file(study.file.path) and (workspace.root / other).exists():
        taken = f"the study {study.name!r} of this workspace is {other}"
        raise UserError(f"{study.file.path}: expected a file of another name: {taken}")


def belongs_to(what: str, workspace: str | None, option: str) -> UserError:
    expected = f"a study file of another name, or a database of your own ({option})"
    return UserError(f"{what} belongs to {workspace or 'somebody else'}; expected {expected}")


def name_aside(name: str, taken: Container[str]) -> str:
    """The name under which a study is kept that has figures of cells that its file no longer asks for."""
    until = f"{name} (until {time.strftime('%F %T')})"
    return next(new for new in chain([until], (f"{until} {n}" for n in count(2))) if new not in taken)
