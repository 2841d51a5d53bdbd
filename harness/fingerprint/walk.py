"""What code reaches: a walk from roots over the names in it."""

from __future__ import annotations

import re
from collections.abc import Collection

from harness.fingerprint.code import Code, fingerprint
from harness.fingerprint.modules import Definition

SOURCE_FILE = re.compile(r"[\w-]+\.(cpp|cu|cuh|h|hpp)")  # texts that can be names of kernels' sources


def reached(code: Code, roots: Collection[str], cut: Collection[str]) -> dict[str, str]:
    """What the roots reach, themselves included: `module:name`, or `module/file` -> hash of what it says."""
    for name in cut:
        code.check(name)
    return _Walk(code, roots, cut).all()


class _Walk:
    """From roots to all that they reach."""

    def __init__(self, code: Code, roots: Collection[str], cut: Collection[str]) -> None:
        self._code = code
        self._roots = roots
        self._cut = tuple(map(_prefix, cut))
        self._kept = tuple(map(_prefix, roots))
        self._found: dict[str, str] = {}
        self._ahead: list[Definition] = []
        self._asked: set[str] = set()  # attributes
        self._classes: list[Definition] = []

    def all(self) -> dict[str, str]:
        for root in self._roots:
            module, _, name = root.partition(":")
            definition = self._code.definition(module, name)
            self._reach(definition)
            self._reach_methods(
                definition
            )  # of a class that is a root, all of them: it is not known which are used
            self._reach(self._code.definition(module, name.partition(".")[0]))
        while self._ahead:
            while self._ahead:
                self._follow(self._ahead.pop())
            for definition in self._classes:
                self._reach_methods(definition, self._asked)
        return self._found

    def _reach(self, definition: Definition) -> None:
        name = _prefix(str(definition))
        is_cut = name.startswith(self._cut) and not name.startswith(self._kept)
        if not is_cut and str(definition) not in self._found:
            self._found[str(definition)] = self._code.hash_of(definition)
            self._ahead.append(definition)

    def _reach_methods(self, of: Definition, asked: Collection[str] | None = None) -> None:
        """Those that are asked for by name, and those that Python asks for; all of them if nothing is said."""
        for name in self._code.module(of.module).methods(of.name):
            if asked is None or name in asked or name.startswith("__"):
                self._reach(self._code.definition(of.module, f"{of.name}.{name}"))
        if asked is None:
            for base in self._code.bases(of):
                self._reach_methods(base)

    def _follow(self, definition: Definition) -> None:
        module = self._code.module(definition.module)
        if "" in module.definitions:
            self._reach(module.definitions[""])
        for reference in definition.references.names:
            for named in self._code.named(definition.module, reference):
                self._reach(named)
        for file in filter(SOURCE_FILE.fullmatch, definition.references.texts):
            if words := module.source(file):
                self._found[f"{definition.module}/{file}"] = fingerprint(words)
        self._asked |= definition.references.attributes
        if self._code.is_called_from_outside(definition):
            self._reach_methods(definition)
        else:
            self._classes.append(definition)


def _prefix(name: str) -> str:
    """What the names of all that is in a module, a class or another definition begin with."""
    return f"{name.replace(':', '.')}."
