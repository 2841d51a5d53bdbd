"""What the report says, each sentence with the row of a table that it is read from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sentence:
    """One statement. `row`: its row of `table` as written, from 1; None where it is of the whole table.

    `judgement`: better, worse or level, of the change that it tells; empty where it tells none.
    """

    text: str
    table: str
    row: int | None = None
    judgement: str = ""

    @property
    def anchor(self) -> str:
        """The id of that row, or of the table, on the page."""
        return self.table if self.row is None else f"{self.table}-{self.row}"
