"""Checks of the paths that a command reads and writes, before it starts: not after hours of training."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.errors import UserError
from harness.files import FULL


def check_folders(*folders: Path) -> None:
    """Raise UserError if one of them, or a folder above it, exists and is not a folder."""
    for folder in folders:
        for path in (*reversed(folder.parents), folder):
            try:
                path.stat()
            except FileNotFoundError:
                if path.is_symlink():
                    raise UserError(f"{path}: expected a folder, found a broken link") from None
                break
            except OSError as failure:
                raise UserError(f"{path}: expected a folder: {failure.strerror}") from None
            if not path.is_dir():
                raise UserError(f"{path}: expected a folder, found a file")


def check_writable(*folders: Path) -> None:
    """Raise UserError if one of them cannot be made or written to.

    A full disk is not an error: whatever writes there later waits for space.
    """
    check_folders(*folders)
    for folder in folders:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as failure:
            if failure.errno not in FULL:
                raise UserError(f"{folder}: expected a folder to write to: {failure.strerror}") from None


def check_files(*files: Path) -> None:
    """Raise UserError if one of them exists and is not a file that can be written."""
    for file in files:
        if file.is_dir():
            raise UserError(f"{file}: expected a file, found a folder")
        if file.exists() and not os.access(file, os.W_OK):
            raise UserError(f"{file}: expected a file that can be written")
