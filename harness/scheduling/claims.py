"""Who runs a study, and whose it is, as others are told."""

from __future__ import annotations

from harness.errors import UserError
from harness.study.spec import Study


def already_run(study: Study, by: str) -> UserError:
    watch = f"harness status {study.file.path} --follow"
    return UserError(f"{study.name}: already being run by {by}; to watch it: {watch}")


def belongs_to(what: str, workspace: str | None, option: str) -> UserError:
    expected = f"a study file of another name, or a database of your own ({option})"
    return UserError(f"{what} belongs to {workspace or 'somebody else'}; expected {expected}")
