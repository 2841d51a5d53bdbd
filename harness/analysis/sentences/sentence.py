"""What the report says, each sentence with the row of a table that it is read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sentence:
    """One statement. `row`: its row of `table` as written, from 1; None where it is of the whole table.

    `judgement`: better, worse or level, of the change that it tells; empty where it tells none.
    `parts`: the statements that it sums up, such as the pairs of arms that an average is of.
    """

    text: str
    table: str
    row: int | None = None
    judgement: str = ""
    parts: tuple[Sentence, ...] = ()

    @property
    def whole(self) -> str:
        """The text with its parts in the same line."""
        return f"{self.text}: {'; '.join(part.text for part in self.parts)}." if self.parts else self.text

    @property
    def anchor(self) -> str:
        """The id of that row, or of the table, on the page."""
        return self.table if self.row is None else f"{self.table}-{self.row}"


def row_number(table: Sequence[dict[str, Any]], row: dict[str, Any]) -> int:
    """The place of a row in the table that it was taken from, from 1. Raises ValueError where it is not there."""
    for number, other in enumerate(table, start=1):
        if other is row:
            return number
    raise ValueError(f"expected a row of the table, got {row}")
