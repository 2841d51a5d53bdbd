"""What code reaches: a walk from roots over the names in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from harness.fingerprint.code import Code, hash_of_json
from harness.fingerprint.modules import Definition

SOURCE_FILE = re.compile(r"[\w-]+\.(cpp|cu|cuh|h|hpp)")  # texts that can be names of kernels' sources


def reached(code: Code, roots: Collection[str], cut: Collection[str]) -> dict[str, str]:
    """What the roots reach, themselves included: `module:name`, or `module/file` -> hash of what it says."""
    return _Walk(code, cut).from_roots(roots)


class _Walk:
    """From roots to all that they reach."""

    def __init__(self, code: Code, cut: Collection[str]) -> None:
        self._code = code
        self._cut = [f"{name.replace(':', '.')}." for name in cut]
        self._found: dict[str, str] = {}
        self._ahead: list[Definition] = []
        self._asked: set[str] = set()  # attributes
        self._classes: list[Definition] = []

    def from_roots(self, roots: Iterable[str]) -> dict[str, str]:
        for root in roots:
            module, _, name = root.partition(":")
            definition = self._code.definition(module, name)
            self._take(definition)
            self._reach_methods(definition)  # of a class that is a root, all: nobody here says what it is for
            self._reach(self._code.definition(module, name.partition(".")[0]))
        while self._ahead:
            while self._ahead:
                self._follow(self._ahead.pop())
            for definition in self._classes:
                self._reach_methods(definition, self._asked)
        return self._found

    def _reach(self, definition: Definition) -> None:
        if not self._is_cut(definition):
            self._take(definition)

    def _take(self, definition: Definition) -> None:
        if str(definition) not in self._found:
            self._found[str(definition)] = self._code.hash_of(definition)
            self._ahead.append(definition)

    def _is_cut(self, definition: Definition) -> bool:
        name = str(definition).replace(":", ".") + "."
        return any(name.startswith(cut) for cut in self._cut)

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
                self._found[f"{definition.module}/{file}"] = hash_of_json(words)
        self._asked |= definition.references.attributes
        if self._code.is_called_from_outside(definition):
            self._reach_methods(definition)
        else:
            self._classes.append(definition)
