"""The report's tables as `tables.tex`, for papers: `\\input` it, or copy a table out of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.analysis.page.shown_tables import ShownTable

MOST_ROWS = 40  # of a table on one page
HEAD = """% Tables of the study {name}, written by `harness report`: edit a copy, this file is written anew.
% Needs \\usepackage{{booktabs,longtable}}; letters beyond Latin need XeLaTeX or LuaLaTeX, and a font."""

SYMBOLS = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "’": "'",
    "…": r"\ldots{}",
    **{letter: f"\\{letter}" for letter in "{}$&#%_"},
}
PATTERN = re.compile("|".join(map(re.escape, SYMBOLS)))


def latex(name: str, tables: Sequence[ShownTable]) -> str:
    """All tables, one after the other; `tab:NAME-TABLE` are their labels."""
    parts = [HEAD.format(name=" ".join(name.split()))]
    parts += ["\n".join(_table(name, table)) for table in tables]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is, in one line."""
    return PATTERN.sub(lambda found: SYMBOLS[found[0]], " ".join(text.split()))


def _table(name: str, table: ShownTable) -> Iterator[str]:
    columns = "".join("l" if column.words else "r" for column in table.columns)
    head = [_line(column.heading for column in table.columns)]
    rows = [_line(cell.line for cell in row.cells) for row in table.rows]
    caption = f"\\caption{{{escaped(f'{name}: {table.title}. {table.note}'.rstrip())}}}"
    label = f"\\label{{tab:{_key(name)}-{table.name}}}"
    if len(rows) <= MOST_ROWS:
        yield from ("\\begin{table}", "\\centering\\small", caption, label, f"\\begin{{tabular}}{{{columns}}}")
        yield from ("\\toprule", *head, "\\midrule", *rows, "\\bottomrule", "\\end{tabular}", "\\end{table}")
        return
    yield from ("{\\small", f"\\begin{{longtable}}{{{columns}}}", f"{caption}{label}\\\\")
    yield from ("\\toprule", *head, "\\midrule", "\\endfirsthead", "\\toprule", *head, "\\midrule", "\\endhead")
    yield from ("\\bottomrule", "\\endfoot", *rows, "\\end{longtable}}")


def _line(texts: Iterator[str]) -> str:
    return f"{' & '.join(map(_cell, texts))} \\\\"


def _cell(text: str) -> str:
    """A [ at the beginning of a line would be the argument of the line break before it."""
    text = escaped(text)
    return f"{{{text}}}" if text.startswith(("[", "*")) else text


def _key(name: str) -> str:
    """A name as a part of a label."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
