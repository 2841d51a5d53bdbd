"""Levels of axes in words: the same in error messages, tables, figures and dashboards. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping

from harness.study.recipe import Scalar


def describe(levels: Mapping[str, Scalar]) -> str:
    """`dense 2-2, penalty 0.1, adam`: a number after the name of its axis, a text alone.

    Two settings of the same axes never read the same.
    """
    several = len(levels) > 1
    return ", ".join(
        (_quoted(level) if several else level) if isinstance(level, str) else f"{name} {show(level)}"
        for name, level in levels.items()
    )


def _quoted(level: str) -> str:
    """In quotes where it could be taken for two levels."""
    return repr(level) if "," in level or level != level.strip() or level[:1] in "'\"" else level


def show(level: Scalar) -> str:
    """A level as text: `0.1`, `4096`, `dense 2-2`, `true`; `none` for a setting that is off."""
    if level is None:
        return "none"
    if isinstance(level, bool):
        return str(level).lower()
    return level if isinstance(level, str) else digits(level)


def digits(number: float) -> str:
    """As few digits as tell a number from every other: `0.001`, `2`, `1000000`, `0.010000001`."""
    short = f"{number:g}"
    return short if float(short) == number and "e+" not in short else f"{number!r}".removesuffix(".0")
