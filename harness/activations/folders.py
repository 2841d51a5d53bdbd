"""Folders that are complete or do not exist, and the manifests that describe them."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.files import FULL
from harness.locks import exclusive, this_process

if TYPE_CHECKING:
    from harness.study.source import Source


class MadeMeanwhile(Exception):
    """Another process has made the same, from the same source, while this one waited for it."""


@contextmanager
def replacing(out: Path, mark: str, source: Source) -> Iterator[Path]:
    """Yield a new folder to fill; it takes the place of `out` only if the block ends without error.

    `mark` is a file that every complete folder of this kind has. While another process makes something of
    this source, this one waits, and says so. Raises MadeMeanwhile if that was just this, and UserError if
    `out` is something else that would be overwritten, or if the disk is full.
    """
    try:
        with _only_one(out, source), _replacing(out, mark) as new:
            yield new
    except Exception as failure:
        if not _is_full(failure):
            raise
        raise UserError(f"{out}: the disk is full; nothing was changed, free some room and try again") from None


@contextmanager
def _only_one(out: Path, source: Source) -> Iterator[None]:
    """Hold the lock of the folder of a source, in which all that is made of it lies."""
    lock = out.parent / ".lock"
    asked = source.model_dump_json(exclude={"name", "path"})
    with ExitStack() as held:
        if not held.enter_context(exclusive(lock)):
            before = _state(out)
            by, _, theirs = lock.read_text(encoding="utf-8").partition("\n")
            print(f"{out.parent}: waiting for {by}, which is making it", file=sys.stderr, flush=True)
            held.enter_context(exclusive(lock, patience=math.inf))
            if theirs == asked and _state(out) not in (None, before):
                raise MadeMeanwhile(f"{out}: made meanwhile by {by}")
        lock.write_text(f"{this_process()}\n{asked}", encoding="utf-8")
        yield


def _state(out: Path) -> tuple[int, int] | None:
    """Tells a folder from one that has taken its place."""
    return (out.stat().st_ino, out.stat().st_ctime_ns) if out.exists() else None


def _is_full(failure: Exception) -> bool:
    """Whether the disk was full; polars, tokenizers and safetensors have only a text for it."""
    if isinstance(failure, OSError) and failure.errno in FULL:
        return True
    return any(f"(os error {number})" in str(failure) for number in FULL)


@contextmanager
def _replacing(out: Path, mark: str) -> Iterator[Path]:
    new, old = (out.with_name(f".{out.name}.{which}") for which in ("new", "old"))
    if old.exists() and not out.exists():  # killed between the two renames below
        old.rename(out)
    if out.exists() and not (out / mark).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: expected a folder with {mark}, an empty one, or none; not overwritten")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a manifest. Raises UserError, with `what` was expected, if there is none or it is not JSON."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent}: expected {what}, found no {path.name}") from None
    except (OSError, ValueError) as failure:
        raise UserError(f"{path}: expected {what}: {failure}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected {what}, got {type(data).__name__}")
    return data


def sha256_of(files: Iterable[Path]) -> str:
    """One sha256 over the names and contents of `files`, in their order."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name} {digest}\n".encode())
    return total.hexdigest()
