"""The names that code takes from around it, by Python's scopes.

A name that is a parameter or is bound within a function, a class or a comprehension is that one's own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.fingerprint.text import FUNCTIONS, is_silent

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Import:
    """What a name was imported as: `module` itself, or `name` from it."""

    module: str
    name: str | None = None

    def __str__(self) -> str:
        return self.module if self.name is None else f"{self.module}:{self.name}"


@dataclass(frozen=True)
class Reference:
    """A name of the module around (or what a function imports), and the attributes that are asked of it."""

    origin: str | Import
    attributes: tuple[str, ...] = ()


@dataclass
class References:
    """What code refers to outside of itself."""

    names: set[Reference] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)  # of any object, and texts that could name one
    texts: set[str] = field(default_factory=set)


def references(node: ast.AST) -> References:
    """The names that code takes from the module around it, and the attributes that it asks of objects."""
    visitor = _Visitor()
    visitor.visit(node)
    return visitor.found


def bound(statements: Iterable[ast.AST]) -> dict[str, Import | None]:
    """The names that statements bind in their own scope; those that they import with what was imported."""
    found: dict[str, Import | None] = {}
    ahead, elsewhere = list(statements), set[str]()
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= imported(node)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            elsewhere |= set(node.names)
        else:
            for name in _names_bound_by(node):
                found.setdefault(name, None)
            if isinstance(node, COMPREHENSIONS):
                ahead += [inner for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)]
            elif not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
                ahead += ast.iter_child_nodes(node)
    return {name: value for name, value in found.items() if name not in elsewhere}


def _names_bound_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    if isinstance(node, ast.MatchMapping):
        return [node.rest] if node.rest else []
    if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        return [node.name] if node.name else []
    return []


def imported(node: ast.Import | ast.ImportFrom) -> dict[str, Import]:
    """The names that an import binds. Raises ValueError for imports that do not say whence or what."""
    if isinstance(node, ast.Import):
        return {
            a.asname or a.name.split(".")[0]: Import(a.name if a.asname else a.name.split(".")[0])
            for a in node.names
        }
    if node.level or node.module is None or any(a.name == "*" for a in node.names):
        raise ValueError(f"expected an import of names from a whole path, got {ast.unparse(node)!r}")
    return {a.asname or a.name: Import(node.module, a.name) for a in node.names}


class _Visitor(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found = References()
        self._scopes: list[dict[str, Import | None]] = []

    def visit_Name(self, node: ast.Name) -> None:
        self._refer(node.id, ())

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            attributes.insert(0, inner.attr)
            inner = inner.value
        self.found.attributes.update(attributes)
        if isinstance(inner, ast.Name):
            self._refer(inner.id, tuple(attributes))
        else:
            self.visit(inner)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.texts.add(node.value)
            if node.value.isidentifier():
                self.found.attributes.add(node.value)  # for getattr

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        # Its texts name nothing, and in how many parts they come depends on the version of Python.
        self._visit_all([part for part in node.values if not isinstance(part, ast.Constant)])

    def visit_Expr(self, node: ast.Expr) -> None:
        if not is_silent(node):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(node.decorator_list)
        self._visit_function(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_function(node.args, [node.body])

    def _visit_function(self, args: ast.arguments, body: Sequence[ast.AST]) -> None:
        self._visit_all([d for d in (*args.defaults, *args.kw_defaults) if d is not None])
        parameters = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        with self._scope({**{p.arg: None for p in parameters if p is not None}, **bound(body)}):
            self._visit_all(body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all([*node.decorator_list, *node.bases, *node.keywords])
        methods = [inner for inner in node.body if isinstance(inner, FUNCTIONS)]
        self._visit_all(methods)  # they do not see the names of the class
        others = [inner for inner in node.body if inner not in methods]
        with self._scope(bound(node.body)):
            self._visit_all(others)
        named = {inner.id for other in others for inner in ast.walk(other) if isinstance(inner, ast.Name)}
        self.found.attributes |= named  # `visit_b = visit_a`

    def _visit_comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        with self._scope(bound(generator.target for generator in node.generators)):
            self.generic_visit(node)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    @contextmanager
    def _scope(self, names: dict[str, Import | None]) -> Iterator[None]:
        self._scopes.append(names)
        yield
        self._scopes.pop()

    def _refer(self, name: str, attributes: tuple[str, ...]) -> None:
        for scope in reversed(self._scopes):
            if name in scope:
                if (origin := scope[name]) is not None:
                    self.found.names.add(Reference(origin, attributes))
                return
        self.found.names.add(Reference(name, attributes))
