"""Reads YAML files with the line of every key, so that errors can point at it."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import UserError

Location = tuple[str | int, ...]

LISTED = 20  # names that a message lists if none is similar
LARGEST = 256 * 1024  # bytes of a file
MOST = 50_000  # keys and values, with aliases expanded
CUT = 300  # characters of a key or a message that are shown
MERGE = "tag:yaml.org,2002:merge"  # the key `<<`
PLAIN = {MERGE, *(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map"))}
# Control characters except line breaks and tabs, unusual line separators, surrogates.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """Safe loading in which only what looks like a number or a boolean is one.

    YAML 1.1 reads `yes`, `no`, `on` and `off` as booleans, `1:30` as 90 and `1e-3` as text.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as its parent has it
        first: [(tag, form) for tag, form in resolvers if tag.rpartition(":")[2] not in ("bool", "int", "float")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


NUMBER = r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?"
for kind, form, first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0b[01_]+|0x[\da-fA-F_]+|\d[\d_]*)", "-+0123456789"),
    ("float", rf"{NUMBER}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+0123456789."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{form})$"), list(first))
LEADING_ZERO = re.compile(r"[-+]?0[\d_]+")  # YAML 1.1 reads it as octal


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no changes after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class YamlFile:
    """A parsed file: its data, and the line of each key and list entry by location."""

    path: Path
    data: Any
    lines: dict[Location, int]

    def error(self, where: Location, message: str) -> UserError:
        """`file:line: key: message`, at the nearest location that exists in the file."""
        line = next((self.lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in self.lines), 1)
        parts = [p if isinstance(p, int) or p.isprintable() else repr(p) for p in where if p != "[key]"]
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".")
        return UserError(f"{self.path}:{line}: {_cut(key) + ': ' if key else ''}{_cut(message)}")

    def mapping(self) -> dict[str, Any]:
        """The file's keys and values. Raises UserError if it is anything else."""
        if not isinstance(self.data, dict):
            raise self.error((), "expected keys and values")
        if others := [key for key in self.data if not isinstance(key, str)]:
            raise self.error((str(others[0]),), f"expected text as a key, got {others[0]!r}")
        return self.data

    def check(self, kind: Any, value: object, where: Location = ()) -> Any:
        """`value`, found at `where` in this file, as a `kind`. Raises UserError if it is not one."""
        try:
            return TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as failure:
            # An unknown key first: it is often the misspelled version of one that is missing.
            errors = sorted(failure.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
            first, *others = errors
            more = f" (and {len(others)} more)" if others else ""
            raise self.error((*where, *first["loc"]), _explain(first, kind) + more) from None


def read_yaml(path: Path) -> YamlFile:
    """Read and safe-load one YAML file. Raises UserError if it is missing, not YAML, or not plain data."""
    text = _read(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        walk = _Walk(path, loader)
        if node is not None:
            walk.visit(node, ())
        data = loader.construct_document(node) if node is not None else None
    except yaml.reader.ReaderError as failure:
        line = text.count("\n", 0, failure.position) + 1
        raise UserError(
            f"{path}:{line}: not YAML: expected text, got the character {failure.character!r}"
        ) from None
    except yaml.YAMLError as failure:
        mark = getattr(failure, "problem_mark", None)
        problem = getattr(failure, "problem", None) or "not valid"
        raise UserError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {_cut(problem)}") from None
    except RecursionError:
        raise UserError(f"{path}:1: not YAML: expected fewer levels of nesting") from None
    return YamlFile(path, data, walk.lines)


def _read(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe may never end
            raise UserError(f"{path}: expected a file" + (", got a folder" if path.is_dir() else ""))
        if status.st_size > LARGEST:
            raise UserError(f"{path}: expected at most {LARGEST // 1024} KiB, got {status.st_size // 1024}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "expected UTF-8 text"
        raise UserError(f"{path}: {reason}") from None


@dataclass
class _Walk:
    """Visits a file's nodes before they are constructed: notes their lines, and checks that they are plain data.

    Aliases are followed each time they occur, so that the size of the expanded data is counted, but never built.
    """

    path: Path
    loader: _Loader
    lines: dict[Location, int] = field(default_factory=dict)
    seen: int = 0
    within: set[int] = field(default_factory=set)  # the nodes that contain the current one

    def visit(self, node: yaml.Node, where: Location) -> None:
        self.lines.setdefault(where, node.start_mark.line + 1)
        self.seen += 1
        if self.seen > MOST:
            raise self._error(where, f"expected at most {MOST:,} keys and values")
        if node.tag not in PLAIN:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(where, f"expected text, a number, a list or keys and values, got {tag}")
        if id(node) in self.within:
            raise self._error(where, "expected a value, got an alias of a value that contains it")
        self.within.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for index, child in enumerate(node.value):
                self.visit(child, (*where, index))
        elif isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, where)
        elif node.tag != MERGE:
            self._check_scalar(node, where)
        self.within.remove(id(node))

    def _visit_mapping(self, node: yaml.MappingNode, where: Location) -> None:
        own: dict[str, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(where, "expected text as a key", line)
            here = (*where, key.value)
            self.visit(key, here)
            if key.value in own:
                raise self._error(here, f"this key is here twice (line {own[key.value]})", line)
            own[key.value] = self.lines[here] = line
            self.visit(child, here)

    def _check_scalar(self, node: yaml.Node, where: Location) -> None:
        if UNPRINTABLE.search(node.value):
            raise self._error(where, f"expected printable text, got {node.value!r}")
        kind = node.tag.rpartition(":")[2]
        if kind == "int" and LEADING_ZERO.fullmatch(node.value):
            raise self._error(where, f"expected a number without leading zeros, got {node.value}")
        if kind in ("int", "float") and ":" in node.value:
            raise self._error(where, f"expected a valid {kind}, got {node.value!r}")
        try:
            value = self.loader.construct_object(node)
        except (ValueError, LookupError):  # such as an integer of 10,000 digits, or `!!bool maybe`
            raise self._error(where, f"expected a valid {kind}, got {node.value!r}") from None
        if isinstance(value, int) and abs(value) > 2**53:
            raise self._error(where, f"expected a whole number of at most 2^53, got {node.value!r}")

    def _error(self, where: Location, message: str, line: int | None = None) -> UserError:
        lines = self.lines if line is None else {where: line}
        return YamlFile(self.path, None, lines).error(where, message)


def file_name(file: YamlFile) -> str:
    """The file's name without its ending, which names folders too. Raises UserError if it is unfit for that."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", file.path.stem):
        raise file.error((), "expected a file name of at most 100 letters, digits, '-' and '_'")
    return file.path.stem


def near(word: object, known: list[str]) -> str:
    """`; did you mean 'x'?`, or the list of known names if none is similar."""
    close = get_close_matches(str(word), known, n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    more = ", ..." if len(known) > LISTED else ""
    return "; expected one of " + ", ".join(known[:LISTED]) + more


def _explain(error: ErrorDetails, kind: Any) -> str:
    """Pydantic's error as `expected ..., got ...`."""
    if error["type"] == "extra_forbidden":
        return "unknown key" + near(error["loc"][-1], _keys_at(kind, error["loc"][:-1]))
    if error["type"] == "missing":
        return "this key is missing"
    bounds = {name: int(b) if b == b // 1 else b for name, b in error.get("ctx", {}).items() if _is_number(b)}
    expected = EXPECTED.get(error["type"], "another value").format(**{**error.get("ctx", {}), **bounds})
    return f"expected {expected}, got {shown(error['input'])}"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float)


def shown(value: object) -> str:
    """A value as a message quotes it, in YAML's notation for null and booleans."""
    words = {None: "nothing", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)


# Pydantic's error types -> what was expected.
EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("string_type", "string_sub_type"), "text"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "keys and values"),
    "list_type": "a list",
    "finite_number": "a finite number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "value_error": "{error}",
}


def _cut(text: str) -> str:
    return text if len(text) <= CUT else text[:CUT] + " ..."


def _keys_at(kind: Any, where: Location) -> list[str]:
    for part in where:
        kind = kind.model_fields[part].annotation
    return list(kind.model_fields)
