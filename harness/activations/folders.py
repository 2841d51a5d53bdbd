"""Folders that are complete or do not exist, and the manifests that describe them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import FULL


@contextmanager
def replacing(out: Path, mark: str) -> Iterator[Path]:
    """Yield a new folder to fill; it takes the place of `out` only if the block ends without error.

    `mark` is a file that every complete folder of this kind has. Only one process at a time may do this, as the
    lock in `harness/sources/prepare.py` makes sure. Raises UserError if `out` is something else that would be
    overwritten, or if the disk is full.
    """
    with full_disk_as_user_error(out), _replacing(out, mark) as new:
        yield new


@contextmanager
def full_disk_as_user_error(out: Path) -> Iterator[None]:
    """Raise UserError where there is no room on the disk for `out`."""
    try:
        yield
    except Exception as failure:
        if not _is_full(failure):
            raise
        raise UserError(f"{out}: the disk is full; nothing was changed, free some room and try again") from None


def _is_full(failure: Exception) -> bool:
    """Whether the disk was full; polars, tokenizers and safetensors have only a text for it."""
    if isinstance(failure, OSError) and failure.errno in FULL:
        return True
    return any(f"(os error {number})" in str(failure) for number in FULL)


@contextmanager
def _replacing(out: Path, mark: str) -> Iterator[Path]:
    new = out.with_name(f".{out.name}.new")
    _check_replaceable(out, mark)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    published(new, out, mark)


def published(new: Path, out: Path, mark: str) -> None:
    """Put a complete folder in the place of `out`, as `replacing` does."""
    old = _check_replaceable(out, mark)
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(out: Path, mark: str) -> Path:
    """Raise UserError if `out` is something that must not be overwritten. Returns where its old version goes."""
    old = out.with_name(f".{out.name}.old")
    if old.exists() and not out.exists():  # killed between the two renames of `published`
        old.rename(out)
    if out.exists() and not (out / mark).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: expected a folder with {mark}, an empty one, or none; not overwritten")
    return old


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
