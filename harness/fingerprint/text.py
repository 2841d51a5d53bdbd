"""What Python code says, apart from how it is written: the same text on every version of Python.

`ast.dump` and `ast.unparse` differ between versions; here only what is there is written, field by field. Left out
are comments, layout, docstrings, `pass` and annotations, except those that a compiler of kernels reads (`jit`).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SILENT = {"ctx", "kind", "simple", "type_comment", "type_ignores"}  # fields that decide nothing
ANNOTATIONS = {"annotation", "returns"}
COMPILERS = {"jit"}  # decorators that read annotations: Triton's tl.constexpr


def text_of(node: ast.AST) -> str:
    """What the code says, as text. Two nodes have the same text only if they do the same."""
    return _node(node, isinstance(node, FUNCTIONS) and _is_compiled(node))


def _node(node: ast.AST, annotations: bool) -> str:
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    annotations |= isinstance(node, FUNCTIONS) and _is_compiled(node)
    left_out = SILENT if annotations else SILENT | ANNOTATIONS
    parts = []
    for name in node._fields:
        value = getattr(node, name, None)
        if name in left_out or value is None:
            continue
        if isinstance(node, ast.JoinedStr) and name == "values":
            value = list(_merged(value))
        if text := _value(value, annotations):
            parts.append(f"{name}={text}")
    return f"{type(node).__name__}({','.join(parts)})"


def _value(value: object, annotations: bool) -> str:
    """A field of a node; nothing for an empty list, which versions of Python may have or not."""
    if isinstance(value, list):
        shown = [
            _node(item, annotations) if isinstance(item, ast.AST) else _value(item, annotations) or "None"
            for item in value
            if not is_silent(item)
        ]
        return f"[{','.join(shown)}]" if shown else ""
    return _node(value, annotations) if isinstance(value, ast.AST) else _constant(value)


def _constant(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value)  # repr leaves in place what its version's Unicode calls printable
    if isinstance(value, bool | None) or value is Ellipsis:
        return repr(value)
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, complex):
        return f"{value.imag.hex()}j"
    return f"b{value.hex()}" if isinstance(value, bytes) else hex(value) if isinstance(value, int) else repr(value)


def _merged(values: Sequence[ast.expr]) -> Iterator[ast.expr]:
    """The parts of an f-string, texts beside each other joined: their number depends on the version."""
    text = ""
    for part in values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield part
    if text:
        yield ast.Constant(text)


def is_silent(node: object) -> bool:
    """Whether this statement does nothing: `pass`, or a text by itself."""
    if isinstance(node, ast.Pass):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_compiled(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(_last_name(decorator) in COMPILERS for decorator in node.decorator_list)


def _last_name(decorator: ast.expr) -> str | None:
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
