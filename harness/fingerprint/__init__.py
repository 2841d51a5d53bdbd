"""The code that a function reaches within this package, and a hash of that.

A *definition* is a function, a class, a method or a constant of a module. It reaches what it names: through
imports, as base class, decorator, default argument or value; files beside its module (kernels in C++); and of a
class the methods that anything reached asks for by name, on whatever object. Other packages are not looked into.

So an instance's class must be reached by name: that of an object which a caller hands over is a root of its own.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from harness.fingerprint.code import Code, fingerprint
from harness.fingerprint.walk import reached

__all__ = ["code_fingerprint", "definitions", "fingerprint"]


def code_fingerprint(roots: Collection[str], cut: Collection[str] = ()) -> str:
    """Hash of the code that these definitions reach, `module:name` or `module:Class.method` each.

    The same on every Python from 3.11 on. cut: modules (with all below them) and definitions that are not
    followed, except where they are roots. Raises ValueError where there is no such definition.
    """
    return fingerprint(sorted(definitions(roots, cut).items()))


def definitions(
    roots: Collection[str], cut: Collection[str] = (), package: Path | None = None
) -> Mapping[str, str]:
    """All that is reached, by name (`module:name`, or `module/file`) -> hash of what it says.

    package: a folder with a copy of this package, in place of this one. Files are read once per process.
    """
    return reached(_code(package or Path(__file__).parents[1]), roots, cut)


@cache
def _code(package: Path) -> Code:
    return Code(package)
