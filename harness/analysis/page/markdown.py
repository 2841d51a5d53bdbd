"""The report as `report.md`: what GitHub shows of a results folder, with links from sentences to rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.analysis.page.contents import LATENTS, Contents
from harness.analysis.page.figures import PageFigure
from harness.analysis.page.sections import ShownSection
from harness.analysis.page.shown_tables import ShownTable
from harness.analysis.sentences.sentence import Sentence
from harness.analysis.sentences.text import plural

# What Markdown, its tables, and HTML within it would take for their own
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~$#@&!^])")


def markdown(contents: Contents) -> str:
    """The page's sentences, tables and figures; the figures as files beside it."""
    return "\n".join(_lines(contents)).rstrip() + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _lines(contents: Contents) -> Iterator[str]:
    study = contents.study
    yield from (f"# {escaped(study.name)}", "", escaped(study.question), "", escaped(contents.facts), "")
    yield from ("## Answer", "")
    yield from _list(contents.answer, inline=True)
    if contents.warnings or contents.uncertain:
        yield from ("", "## What weakens it", "")
        yield from _list(contents.uncertain)
        yield from (f"- {escaped(warning)}" for warning in contents.warnings)
    if study.interpretability:
        yield from ("", f"[Latents, one by one]({LATENTS}): `harness features {study.path}` makes it")
    yield from ("", "## Figures", "")
    yield from _figures(contents.first_figures)
    if contents.other_figures:
        yield from _folded(plural(len(contents.other_figures), "more figure"), _figures(contents.other_figures))
    for section in contents.sections:
        yield from _section(section)
    definitions = (f"- **{escaped(label)}**: {escaped(text)}" for label, text in contents.definitions)
    yield from _folded(plural(len(contents.definitions), "definition"), definitions)
    yield from ("## Provenance", "")
    for title, entries in contents.provenance.items():
        yield from (f"### {escaped(title)}", "", "| | |", "|---|---|")
        yield from (f"| {escaped(name)} | {escaped(value)} |" for name, value in entries.items())
        yield ""


def _section(section: ShownSection) -> Iterator[str]:
    yield from (f"## {escaped(section.title)}", "")
    for group in section.groups:
        if group.title:
            yield from (f"### {escaped(group.title)}", "")
        yield from _list(group.shown)
        if group.folded:
            yield from ("", *_folded(plural(len(group.folded), "more sentence"), _list(group.folded)))
        yield ""
    for table in section.tables:
        if section.opened(table):
            yield from _table(table)
        else:
            yield from _folded(f"Table: {table.title} ({plural(len(table.rows), 'row')})", _table(table))


def _list(sentences: Sequence[Sentence], depth: int = 0, *, inline: bool = False) -> Iterator[str]:
    """Sentences with links to their rows; their parts in the same line, or below them."""
    for sentence in sentences:
        if inline and sentence.parts:
            parts = "; ".join(_linked(part) for part in sentence.parts)
            yield f"{'  ' * depth}- {escaped(sentence.text)}: {parts}."
        else:
            yield f"{'  ' * depth}- {_linked(sentence)}"
            yield from _list(sentence.parts, depth + 1)


def _linked(sentence: Sentence) -> str:
    where = sentence.table if sentence.row is None else f"{sentence.table} {sentence.row}"
    return f"{escaped(sentence.text)} [{escaped(where)}](#{sentence.anchor})"


def _table(table: ShownTable) -> Iterator[str]:
    yield f'<a name="{table.name}"></a>'
    yield ""
    yield f"| {' | '.join(escaped(column.heading) for column in table.columns)} |"
    yield f"|{'|'.join('---' if column.words else '--:' for column in table.columns)}|"
    for row in table.rows:
        first, *others = (escaped(cell.line) for cell in row.cells)
        yield f'| <a name="{row.id}"></a>{" | ".join([first, *others])} |'
    yield from ("", f"{escaped(table.note)} In full: [{table.file}]({table.file})".strip(), "")


def _figures(figures: Sequence[PageFigure]) -> Iterator[str]:
    for figure in figures:
        yield from (f"![{escaped(figure.name)}](figures/{figure.name}.png)", "", escaped(figure.caption), "")


def _folded(summary: str, lines: Iterator[str]) -> Iterator[str]:
    yield from ("<details>", f"<summary>{_html(summary)}</summary>", "", *lines, "", "</details>", "")


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
