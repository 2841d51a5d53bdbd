"""Tables in narrow terminals, and in pipes and files, which have 80 columns."""

from __future__ import annotations

from rich.cells import cell_len
from rich.table import Table


def keep_words(table: Table) -> Table:
    """The table with columns no narrower than their longest word, to be printed with `crop=False`.

    Rich would cut figures off where there is no room for all, and leave whole columns out.
    """
    for column in table.columns:
        texts = (str(cell) for cell in (column.header, *column.cells))
        column.min_width = max((cell_len(word) for text in texts for word in text.split()), default=1)
    return table
