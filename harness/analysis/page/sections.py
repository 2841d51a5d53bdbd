"""The sections of the report after its first screen: what is said, and the tables that it is read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.analysis.arms import variance
from harness.analysis.comparability import sentences as comparability
from harness.analysis.effects import contexts, interactions
from harness.analysis.interpretability import sentences as interpretability
from harness.analysis.life import effects as life_effects
from harness.analysis.life import rates as life
from harness.analysis.page.shown_tables import ShownTable, shown_table
from harness.analysis.sentences.findings import findings
from harness.analysis.sentences.sentence import Sentence
from harness.analysis.views.view import View

MOST_SENTENCES = 12  # of a section; the others are folded
MOST_ROWS = 20  # of a table that is not folded

Said: TypeAlias = Sequence[Sentence] | Mapping[str, Sequence[Sentence]]


@dataclass(frozen=True)
class Section:
    """`sentences`: in groups under headings, or without. `tables`: by their names, in the order of the page."""

    title: str
    sentences: Callable[[View], Said]
    tables: tuple[str, ...] = ()


def _nothing(view: View) -> Said:
    return []


# One line for each section. A section without sentences and rows is left out.
SECTIONS: tuple[Section, ...] = (
    Section("Arms", _nothing, ("arms", "metrics")),
    Section("Effects", findings, ("effects", "reach")),
    Section(
        "Interpretability",
        interpretability.sentences,
        (
            "interpretability",
            "interpretability_effects",
            "nulls",
            "above_nulls",
            "latents",
            "interpretability_variance",
        ),
    ),
    Section("Where contexts differ", contexts.sentences, ()),
    Section("Interactions", interactions.sentences, ("interactions",)),
    Section("At equal settings and in other senses", comparability.sentences, ("frontier", "senses")),
    Section("Deaths and revivals", life.sentences, ("life",)),
    Section("What remedies change", life_effects.sentences, ("life_effects",)),
    Section("Variance", variance.sentences, ("variance",)),
    Section("Stacked layers", _nothing, ("layers",)),
    Section("Tuned values", _nothing, ("tuning",)),
)


@dataclass(frozen=True)
class Group:
    """Sentences under a heading, which may be empty: those to show, and those to fold."""

    title: str
    shown: Sequence[Sentence]
    folded: Sequence[Sentence]


@dataclass(frozen=True)
class ShownSection:
    """A section with what it has to show."""

    id: str
    title: str
    groups: list[Group]
    tables: list[ShownTable]

    def opened(self, table: ShownTable) -> bool:
        """Whether this table is not folded: it is all that the section has, and it is short."""
        return not self.groups and table is self.tables[0] and len(table.rows) <= MOST_ROWS


def shown_sections(view: View, elsewhere: Sequence[Sentence] = ()) -> list[ShownSection]:
    """All sections that have something to show, and every table that they or sentences `elsewhere` point to."""
    said = [(section, list(_groups(section.sentences(view)))) for section in SECTIONS]
    sentences = [
        *elsewhere,
        *(one for _, groups in said for group in groups for one in (*group.shown, *group.folded)),
    ]
    rows: dict[str, set[int]] = {}
    for sentence in _all(sentences):
        rows.setdefault(sentence.table, set()).update([] if sentence.row is None else [sentence.row])
    placed: set[str] = set()

    def tables(names: Iterable[str]) -> list[ShownTable]:
        new = [name for name in names if name not in placed]
        placed.update(new)
        return [table for name in new if (table := shown_table(view, name, rows.get(name, ())))]

    sections = []
    for section, groups in said:
        shown = tables(section.tables)
        if groups or shown:
            sections.append(ShownSection(_id(section.title), section.title, groups, shown))
    if others := tables(rows):
        sections.append(ShownSection("other-tables", "Other tables", [], others))
    return sections


def _groups(said: Said) -> Iterator[Group]:
    for title, sentences in (said if isinstance(said, Mapping) else {"": said}).items():
        if sentences:
            yield Group(title, sentences[:MOST_SENTENCES], sentences[MOST_SENTENCES:])


def _all(sentences: Sequence[Sentence]) -> Iterator[Sentence]:
    for sentence in sentences:
        yield sentence
        yield from _all(sentence.parts)


def _id(title: str) -> str:
    """The id of a section; no table has one like it."""
    return "section-" + "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
