"""The docstrings of installed packages, read without importing any of them."""

from __future__ import annotations

import ast
import gc
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from inspect import cleandoc
from multiprocessing import get_context
from pathlib import Path

SUFFIXES = (".py", ".pyi")
SKIPPED = {"tests", "test", "vendor", "_vendor", "vendored", "third_party"}  # little documented, or copies
WORTH_PROCESSES = 600  # files; fewer are parsed faster than a process starts
CHUNK = 32  # files handed to a process at a time

Documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def package_files(name: str) -> list[tuple[str, Path]] | None:
    """Python files of an installed package as (identity such as `numpy/lib/npyio.py`, path), sorted.

    None if no package of that top-level import name is installed.
    """
    spec = _spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        file = Path(spec.origin or "")
        return [(file.name, file)] if file.suffix in SUFFIXES else []
    found: dict[str, Path] = {}
    for root in map(Path, spec.submodule_search_locations):
        for file in _python_files(root):
            found.setdefault(f"{name}/{file.relative_to(root).as_posix()}", file)
    return sorted(found.items())


def _spec(name: str) -> ModuleSpec | None:
    if not name.isidentifier():  # a path is not a package, and a dot would import the parent package
        return None
    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None


def _python_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED]
        yield from (Path(folder, f) for f in files if f.endswith(SUFFIXES))


def docstrings_of(files: list[Path], processes: int | None = None) -> list[list[str] | None]:
    """The docstrings of each file in the order of the text; None for a file that does not parse.

    processes: by default one per CPU if there are many files. The result does not depend on it.
    """
    count = processes or (os.cpu_count() or 1 if len(files) >= WORTH_PROCESSES else 1)
    if count == 1:
        return [file_docstrings(file) for file in files]
    # spawned, not forked: the caller may have running threads of torch or polars
    with ProcessPoolExecutor(count, get_context("spawn"), gc.disable) as pool:
        return list(pool.map(file_docstrings, files, chunksize=CHUNK))


def file_docstrings(file: Path) -> list[str] | None:
    """Docstrings of the module, its classes and functions, cleaned of indentation; None if unparsable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(file.read_bytes())
        return [text for node in _statements(tree) if (text := _docstring(node))]
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """The module and all statements in it, in order; without expressions, which are most of a tree."""
    yield tree
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(tree, field, ()):
            yield from _statements(child)


def _docstring(node: ast.AST) -> str:
    if not isinstance(node, Documented):
        return ""
    text = ast.get_docstring(node, clean=False) or ""
    # "\ud800" is a valid literal, but cannot be written to a file as UTF-8
    return cleandoc(text).strip().encode("utf-8", "replace").decode("utf-8")
