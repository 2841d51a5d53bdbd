"""docs/definitions.md: its table of metrics is that of `harness/metrics`.

`python -m tests.test_definitions` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

from harness.metrics.documentation import markdown_table

PAGE = Path(__file__).parents[1] / "docs" / "definitions.md"
BEGIN, END = "<!-- metrics -->\n", "<!-- end of metrics -->\n"


def with_table(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + markdown_table() + END + after


def test_the_table_of_metrics_is_up_to_date():
    page = PAGE.read_text()
    assert with_table(page) == page, "run python -m tests.test_definitions"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
