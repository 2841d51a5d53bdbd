"""Levels of axes: as columns of tables, and in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from harness.study.recipe import Scalar

Level: TypeAlias = Scalar  # None: what the axis stands for is off in this arm, or the arm does not have the axis
Key: TypeAlias = tuple[Level, ...]


def column(axis: str) -> str:
    """An axis' column in the tables. No other column begins like it, so an axis may have any column's name."""
    return f"axis_{axis}"


def columns(levels: Mapping[str, Level]) -> dict[str, Level]:
    """Levels as columns of a table."""
    return {column(axis): level for axis, level in levels.items()}


def levels_in(row: Mapping[str, Any], axes: Iterable[str]) -> dict[str, Level]:
    """The levels of `axes` that a row of a table has."""
    return {axis: row[column(axis)] for axis in axes}


def told_apart(levels: Sequence[Mapping[str, Level]], words: Sequence[str]) -> list[str]:
    """The words for each of `levels`, or JSON where different levels read the same.

    As `x` + `y, z` and `x, y` + `z` do.
    """
    meant: dict[str, list[Mapping[str, Level]]] = {}
    for level, word in zip(levels, words, strict=True):
        if level not in meant.setdefault(word, []):
            meant[word].append(level)
    return [
        word if len(meant[word]) == 1 else json.dumps(level, ensure_ascii=False)
        for level, word in zip(levels, words, strict=True)
    ]


def describe(levels: dict[str, Level]) -> str:
    """Levels in words; a number gets its axis' name in front, since it says nothing alone."""
    words = [show(level) if isinstance(level, str) else f"{axis} {show(level)}" for axis, level in levels.items()]
    return ", ".join(words)


def show(level: Level) -> str:
    """A level as text: `0.1`, `4096`, `dense 2-2`, `true`; `none` where it is off."""
    if level is None:
        return "none"
    if isinstance(level, bool):
        return str(level).lower()
    if isinstance(level, float):
        if level.is_integer() and abs(level) < 1e9:
            return str(int(level))
        short = f"{level:g}"
        return short if float(short) == level else repr(level)  # two levels never read the same
    return str(level)
