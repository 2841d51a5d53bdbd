"""What names stand for: from a reference to its definitions, through the imports of a package."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from harness.fingerprint.modules import Definition, Module
from harness.fingerprint.names import Import, Reference, references

# Bases that call no method which is not asked for by name
INERT = {"object", "Protocol", "Generic", "ABC", "NamedTuple", "Enum", "Exception"}


class Code:
    """The source files of a package, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = folder.name
        self._modules: dict[str, Module] = {}
        self._hashes: dict[str, str] = {}
        self._paths: dict[str, Path | None] = {}
        self._meanings: dict[tuple[str, Reference], list[Definition]] = {}

    def module(self, name: str) -> Module:
        """Raises ValueError if the package has no such module."""
        if name not in self._modules:
            if (path := self._path(name)) is None:
                raise ValueError(f"expected a module of {self._name}, got {name!r}")
            self._modules[name] = Module(name, path)
        return self._modules[name]

    def has_module(self, name: str) -> bool:
        return self._path(name) is not None

    def _path(self, name: str) -> Path | None:
        if name not in self._paths:
            package, *parts = name.split(".")
            path = self._folder.joinpath(*parts)
            candidates = [path / "__init__.py"] + [path.with_suffix(".py")] * bool(parts)
            found = (p for p in candidates if package == self._name and p.is_file())
            self._paths[name] = next(found, None)
        return self._paths[name]

    def definition(self, module: str, name: str) -> Definition:
        """Raises ValueError if there is none."""
        try:
            return self.module(module).definitions[name]
        except KeyError:
            raise ValueError(f"expected a definition in {module}, got {name!r}") from None

    def check(self, name: str) -> None:
        """Raise ValueError if there is no module and no definition of this name."""
        module, _, inner = name.partition(":")
        if inner:
            self.definition(module, inner)
        elif self._path(module) is None and not self._folder.joinpath(*module.split(".")[1:]).is_dir():
            self.module(module)

    def hash_of(self, definition: Definition) -> str:
        """Of what it says, and of what its names stand for."""
        key = str(definition)
        if key not in self._hashes:
            meant = sorted(
                [r.origin, self._meaning(definition.module, r)]
                for r in definition.references.names
                if isinstance(r.origin, str)
            )
            self._hashes[key] = fingerprint([definition.texts, meant])
        return self._hashes[key]

    def _meaning(self, module: str, reference: Reference) -> list[str]:
        assert isinstance(reference.origin, str)
        origin = self.module(module).imports.get(reference.origin)
        if origin is not None and not self.has_module(origin.module):
            return [str(origin)]
        return sorted(str(definition) for definition in self.named(module, reference))

    def bases(self, definition: Definition) -> list[Definition]:
        """Base classes within the package."""
        return [found for base in _bases(definition) for found in self.named(definition.module, base)]

    def is_called_from_outside(self, definition: Definition) -> bool:
        """Whether it is a class of which another package knows methods, since it or a base is derived from its."""
        known = [self.named(definition.module, base) for base in _bases(definition)]
        if any(not found for found in known):
            return True
        return any(self.is_called_from_outside(base) for found in known for base in found)

    def named(self, module: str, reference: Reference) -> list[Definition]:
        """The definitions of the package that a reference from within `module` stands for."""
        key = (module, reference)
        if key not in self._meanings:
            self._meanings[key] = list(self._named(module, reference.origin, reference.attributes))
        return self._meanings[key]

    def _named(self, module: str, origin: str | Import, attributes: tuple[str, ...]) -> Iterator[Definition]:
        if isinstance(origin, str):
            here = self.module(module)
            if origin in here.imports:
                yield from self._named(module, here.imports[origin], attributes)
            if origin in here.definitions:
                yield here.definitions[origin]
        elif not self.has_module(origin.module):
            return
        elif origin.name is None:
            yield from self._attribute(origin.module, attributes)
        else:
            yield from self._attribute(origin.module, (origin.name, *attributes))

    def _attribute(self, module: str, attributes: tuple[str, ...]) -> Iterator[Definition]:
        """Of a module; without attributes the module is handed on, and all of it may be used."""
        here = self.module(module)
        if not attributes:
            yield from here.definitions.values()
            return
        name, *rest = attributes
        if name in here.definitions or name in here.imports:
            yield from self._named(module, name, tuple(rest))
        elif self.has_module(f"{module}.{name}"):
            yield from self._attribute(f"{module}.{name}", tuple(rest))
        elif "__getattr__" in here.definitions:
            yield here.definitions["__getattr__"]
        elif not name.startswith("__"):
            raise ValueError(f"expected a definition in {module}, got {name!r}")


def _bases(definition: Definition) -> list[Reference]:
    """Those that can be called from elsewhere, as references."""
    classes = [statement for statement in definition.statements if isinstance(statement, ast.ClassDef)]
    return [
        base
        for c in classes
        for expression in c.bases
        for base in references(expression).names
        if (base.attributes or (base.origin,))[-1] not in INERT
    ]


def fingerprint(value: object) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
