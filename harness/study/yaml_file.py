"""YAML as people write it, with the line of every key, so that errors can point at it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import UserError

Location = tuple[str | int, ...]

LISTED = 20  # names that a message lists where none is near


class _Loader(yaml.SafeLoader):
    """Safe loading that also reads `1e-3` as a number (YAML 1.1 wants `1.0e-3`)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class YamlFile:
    """A parsed file: its data, and the line of each key and list entry by location."""

    path: Path
    data: Any
    lines: dict[Location, int]

    def error(self, where: Location, message: str) -> UserError:
        """`file:line: key: message`, at the nearest location that the file really has."""
        line = next((self.lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in self.lines), 1)
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in where).lstrip(".")
        return UserError(f"{self.path}:{line}: {key + ': ' if key else ''}{message}")

    def mapping(self) -> dict[str, Any]:
        """The file's keys and values. Raises UserError if it is anything else."""
        if not isinstance(self.data, dict) or not all(isinstance(key, str) for key in self.data):
            raise self.error((), "expected keys and values")
        return self.data

    def check(self, kind: Any, value: object, where: Location = ()) -> Any:
        """`value`, which stands at `where` in this file, as a `kind`. Raises UserError if it is not one."""
        try:
            return TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as failure:
            # An unknown key first: it often is the misspelt one that is then missing.
            errors = sorted(failure.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
            first, *others = errors
            more = f" (and {len(others)} more)" if others else ""
            raise self.error((*where, *first["loc"]), _explain(first, kind) + more) from None


def read_yaml(path: Path) -> YamlFile:
    """Read and safe-load one YAML file. Raises UserError if it is missing, not YAML, or repeats a key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "expected UTF-8 text"
        raise UserError(f"{path}: {reason}") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[Location, int] = {}
        if node is not None:
            _walk(node, (), lines, path)
        data = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as failure:
        mark = getattr(failure, "problem_mark", None)
        problem = getattr(failure, "problem", None) or "not valid"
        raise UserError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {problem}") from None
    except (ValueError, RecursionError) as failure:  # such as the date 2026-99-99, or brackets 1,000 deep
        raise UserError(f"{path}:1: not YAML: {str(failure).splitlines()[0]}") from None
    return YamlFile(path, data, lines)


def _walk(node: yaml.Node, where: Location, lines: dict[Location, int], path: Path) -> None:
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _walk(child, (*where, index), lines, path)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            here = (*where, str(key.value))
            line = key.start_mark.line + 1
            if here in lines:
                raise UserError(f"{path}:{line}: {key.value}: this key stands here twice (line {lines[here]})")
            lines[here] = line
            _walk(child, here, lines, path)


def near(word: object, known: list[str]) -> str:
    """`; did you mean 'x'?`, or the list of what there is when nothing is near."""
    close = get_close_matches(str(word), known, n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    more = ", ..." if len(known) > LISTED else ""
    return "; expected one of " + ", ".join(known[:LISTED]) + more


def _explain(error: ErrorDetails, kind: Any) -> str:
    """Pydantic's complaint in the words `expected ..., got ...`."""
    if error["type"] == "extra_forbidden":
        return "unknown key" + near(error["loc"][-1], _keys_at(kind, error["loc"][:-1]))
    if error["type"] == "missing":
        return "this key is missing"
    message = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"expected {message}, got {error['input']!r}"


def _keys_at(kind: Any, where: Location) -> list[str]:
    for part in where:
        kind = kind.model_fields[part].annotation
    return list(kind.model_fields)
