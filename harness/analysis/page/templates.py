"""Templates of pages, in which text is escaped and a name that is not known is an error."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(folder: str) -> Environment:
    """Those of a folder of this package."""
    return Environment(
        loader=PackageLoader("harness.analysis", folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
