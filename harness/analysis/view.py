"""What figures share: the tables, which axis gives the colour, and which combinations give the panels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from harness.analysis.results import TABLES, Key, Level, Study, describe, read_study, read_table, show
from harness.analysis.style import MARKERS, PALETTE

Row = dict[str, Any]
Item = TypeVar("Item")


@dataclass(frozen=True)
class View:
    """Tables of one study, as rows, with the choices that all its figures keep to."""

    study: Study
    tables: dict[str, list[Row]]

    @property
    def arms(self) -> list[Row]:
        """The arms table."""
        return self.tables["arms"]

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """Compared axes on which the arms really differ, in the order of the study file."""
        return tuple(a for a in self.study.compared if len({arm[a] for arm in self.arms}) > 1)

    @property
    def hue(self) -> str | None:
        """The axis shown by colour: the first that varies."""
        return self.varying[0] if self.varying else None

    @property
    def rest(self) -> tuple[str, ...]:
        """The other axes that vary: they make the panels."""
        return self.varying[1:]

    @cached_property
    def hues(self) -> list[Level]:
        """Levels of the colour axis, in the order of the study file."""
        return [None] if self.hue is None else unique(arm[self.hue] for arm in self.arms)

    @cached_property
    def combinations(self) -> list[Key]:
        """Combinations of the other axes that some arm has, in the order of the study file."""
        keys = unique(self.combination(arm) for arm in self.arms)
        return sorted(keys, key=lambda key: self.study.rank(self.rest, key))

    def combination(self, row: Row) -> Key:
        """The levels of the other axes in a row of any table."""
        return tuple(row[axis] for axis in self.rest)

    def level(self, row: Row) -> Level:
        """The level of the colour axis in a row of any table."""
        return row[self.hue] if self.hue is not None else None

    def combination_label(self, key: Key) -> str:
        """As in `penalty 0.1, adam`."""
        return describe(dict(zip(self.rest, key, strict=True)))

    def level_label(self, level: Level) -> str:
        """As in `dense 2-2` or `k 32`."""
        if self.hue is None:
            return self.study.name
        return show(level) if level is None else describe({self.hue: level})

    def colour(self, level: Level) -> str:
        """The colour of a level of the colour axis; the reference always has the first, ink."""
        reference = None if self.hue is None else self.study.reference(self.hue)
        ordered = sorted(self.hues, key=lambda other: other != reference)
        return PALETTE[ordered.index(level) % len(PALETTE)]

    def marker(self, key: Key) -> str:
        """The marker of a combination of the other axes."""
        return MARKERS[self.combinations.index(key) % len(MARKERS)]

    @property
    def seeds_note(self) -> str:
        """How many seeds there are and what the intervals are, as in every figure's note."""
        n = len(self.study.seeds)
        if n == 1:
            return "one seed a setting, hence no intervals"
        return f"n = {n} seeds, 95 % t-intervals"


@dataclass(frozen=True)
class LevelEffect:
    """The effects table's rows on one level; no marginal where a single pair says the same."""

    axis: str
    level: str
    reference: str
    marginal: Row | None
    pairs: list[Row]


def effects_by_level(view: View) -> list[LevelEffect]:
    """The effects table, grouped by axis and level in its own order."""
    found = []
    effects = view.tables["effects"]
    for axis, level, reference in unique((e["axis"], e["level"], e["reference"]) for e in effects):
        rows = [e for e in effects if (e["axis"], e["level"]) == (axis, level)]
        pairs = [row for row in rows if row["kind"] == "pair"]
        marginal = [row for row in rows if row["kind"] == "marginal" and len(pairs) > 1]
        found.append(LevelEffect(axis, level, reference, marginal[0] if marginal else None, pairs))
    return found


def load_view(results: Path) -> View:
    """The view of a results folder. Raises UserError where study.json or a table is missing."""
    return View(read_study(results), {name: read_table(results, name).to_dicts() for name in TABLES})


def unique(values: Iterable[Item]) -> list[Item]:
    """Values without repetitions, in order of appearance."""
    return list(dict.fromkeys(values))
