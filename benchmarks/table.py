"""Tables in Markdown."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import TypeAlias

Value: TypeAlias = str | float | int | None


def table(heads: Sequence[str], rows: Sequence[Sequence[Value]]) -> str:
    """Text to the left, numbers to the right, `-` where there is none."""
    right = [all(not isinstance(row[column], str) for row in rows) for column in range(len(heads))]
    lines = [heads, ["--:" if numbers else "---" for numbers in right], *([_text(v) for v in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def why(failure: Exception) -> str:
    """Why a figure is missing, short enough for its place; standard error gets all of it."""
    traceback.print_exception(failure)
    return f"{type(failure).__name__}: {failure}".splitlines()[0][:80]


def _text(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if value < 10 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else value
