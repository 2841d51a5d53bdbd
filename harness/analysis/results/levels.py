"""Levels of axes as columns of tables, and arms told apart."""

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


def unambiguous(levels: Sequence[Mapping[str, Level]], words: Sequence[str]) -> list[str]:
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
