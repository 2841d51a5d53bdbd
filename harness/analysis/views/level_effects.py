"""The effects table as findings and figures show it: level by level, with what its average is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.analysis.views.view import Row, View, unique


@dataclass(frozen=True)
class LevelEffect:
    """The effects table's rows on one level; no marginal where a single pair says the same.

    In a fraction there are no pairs, only a marginal.
    """

    axis: str
    level: str
    reference: str
    marginal: Row | None
    pairs: list[Row]

    @property
    def change(self) -> float:
        """The change of FVU in percent; infinite where there is none."""
        changes = [row["fvu_percent"] for row in (self.marginal, *self.pairs) if row is not None]
        return next((change for change in changes if change is not None), math.inf)


def effects_by_level(view: View) -> list[LevelEffect]:
    """The effects table, grouped by axis and level: in its own order, many words by their change of FVU."""
    found: list[LevelEffect] = []
    effects = view.tables["effects"]
    for axis, level, reference in unique((e["axis"], e["level"], e["reference"]) for e in effects):
        rows = [e for e in effects if (e["axis"], e["level"]) == (axis, level)]
        pairs = [row for row in rows if row["kind"] == "pair"]
        marginal = [row for row in rows if row["kind"] == "marginal" and len(pairs) != 1]
        found.append(LevelEffect(axis, level, reference, marginal[0] if marginal else None, pairs))
    axes = unique(effect.axis for effect in found)
    return sorted(found, key=lambda e: (axes.index(e.axis), e.change if view.sorts(e.axis) else 0.0))
