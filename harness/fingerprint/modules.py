"""Source files, taken apart into definitions."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from harness.fingerprint.names import Import, References, bound, imported, references
from harness.fingerprint.text import FUNCTIONS, is_silent, text_of

COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)  # or a text, which is none


@dataclass(frozen=True)
class Definition:
    """Statements of a module that define one of its names."""

    module: str
    name: str
    statements: tuple[ast.stmt, ...]

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    @cached_property
    def texts(self) -> list[str]:
        """What it says."""
        return [text_of(statement) for statement in self.statements]

    @cached_property
    def references(self) -> References:
        found = References()
        for statement in self.statements:
            inner = references(statement)
            found.names |= inner.names
            found.attributes |= inner.attributes
            found.texts |= inner.texts
        return found


class Module:
    """A source file, taken apart into its definitions."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.folder = path.parent
        self.imports: dict[str, Import] = {}
        self._statements: dict[str, list[ast.stmt]] = {}  # name -> what defines it, "" -> what only has an effect
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            self._add(statement)

    def _add(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self.imports |= imported(statement) if not _is_future(statement) else {}
        elif not is_silent(statement) and not _is_for_type_checkers(statement):
            names = bound([statement])
            self.imports |= {name: origin for name, origin in names.items() if origin is not None}
            for name in names or [""]:
                self._statements.setdefault(name, []).append(statement)

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """By name; a class is there without its methods, which have names of their own."""
        found: dict[str, list[ast.stmt]] = {}
        for name, statements in self._statements.items():
            for statement in statements:
                found.setdefault(name, []).append(_without_methods(statement))
                for method in _methods(statement):
                    found.setdefault(f"{name}.{method.name}", []).append(method)
        return {name: Definition(self.name, name, tuple(statements)) for name, statements in found.items()}

    @cache  # noqa: B019 modules are as few as files
    def source(self, file: str) -> list[str]:
        """The words of a file beside this one, in C++; none if there is no such file."""
        path = self.folder / file
        return _words_of_cpp(path.read_text(encoding="utf-8")) if path.is_file() else []

    def methods(self, name: str) -> list[str]:
        """Names of the methods of a class; none of anything else."""
        return list(dict.fromkeys(m.name for s in self._statements.get(name, ()) for m in _methods(s)))


def _is_future(statement: ast.Import | ast.ImportFrom) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _is_for_type_checkers(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"


def _methods(statement: ast.stmt) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    body = statement.body if isinstance(statement, ast.ClassDef) else ()
    return [inner for inner in body if isinstance(inner, FUNCTIONS)]


def _without_methods(statement: ast.stmt) -> ast.stmt:
    if not isinstance(statement, ast.ClassDef):
        return statement
    fields = {name: getattr(statement, name) for name in statement._fields}
    return ast.ClassDef(**{**fields, "body": [s for s in statement.body if not isinstance(s, FUNCTIONS)]})


def _words_of_cpp(source: str) -> list[str]:
    return COMMENT.sub(lambda match: match[0] if match[0].startswith('"') else " ", source).split()
