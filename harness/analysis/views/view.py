"""What figures share: the tables, which axis gives the colour, and which combinations give the panels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from harness.analysis.arms.measured import confidence
from harness.analysis.comparability.l0 import spread
from harness.analysis.results.files import TABLES, read_study, read_table
from harness.analysis.results.levels import Key, Level, column, levels_in, unambiguous
from harness.analysis.results.records import StudyRecord
from harness.analysis.views.palette import MARKERS, PALETTE
from harness.metrics import Metric, compared, metrics_at

MOST_HUES = 7  # lines of more colours in one panel are not told apart
MOST_PANELS = 12

Row = dict[str, Any]
Item = TypeVar("Item")


@dataclass(frozen=True)
class View:
    """Tables of one study, as rows, with the choices that all its figures keep to.

    `names_note`: what was done with names that figures cannot write as they are; empty where nothing was.
    """

    study: StudyRecord
    tables: dict[str, list[Row]]
    names_note: str = ""

    @property
    def arms(self) -> list[Row]:
        """The arms table."""
        return self.tables["arms"]

    @cached_property
    def baseline(self) -> Row | None:
        """The arm to compare with, if the tables have it."""
        levels = self.study.key(self.study.baseline)
        return next((a for a in self.arms if self.study.key(levels_in(a, self.study.compared)) == levels), None)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The final figures of arms: the optional ones where they were measured."""
        return tuple(metric for metric in metrics_at("final") if metric.name in self.arms[0])

    @property
    def outcomes(self) -> tuple[Metric, ...]:
        """Those of them that arms are compared by, but for those about what latents mean."""
        return tuple(metric for metric in compared(self.metrics) if metric.group != "interpretability")

    @property
    def interpretability(self) -> tuple[Metric, ...]:
        """Those about what latents mean, which have a section and figures of their own."""
        return tuple(metric for metric in compared(self.metrics) if metric.group == "interpretability")

    @property
    def references(self) -> list[tuple[str, Row]]:
        """SAEs of other origin, by name, with the same metrics."""
        names = [metric.name for metric in self.metrics]
        found = self.study.references.items()
        return [(name, {metric: one.heldout.get(metric) for metric in names}) for name, one in found]

    def reach(self, effect: Row) -> Row | None:
        """The reach table's row on the pair of arms that a row of the effects table is of."""
        names = ("axis", "level", "kind", "holding")
        rows = self.tables["reach"]
        return next((row for row in rows if all(row[name] == effect[name] for name in names)), None)

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """Compared axes on which the arms really differ, in the order of the study file."""
        return tuple(a for a in self.study.compared if len({arm[column(a)] for arm in self.arms}) > 1)

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
        """Levels of the colour axis: in the order of the study file, or, if they are many words, the reference and
        then the others by their lowest FVU."""
        levels = unique(self.level(arm) for arm in self.arms)
        if self.hue is None or not self.sorts(self.hue):
            return levels
        reference = self.study.reference(self.hue)
        return sorted(levels, key=lambda level: (level != reference, self._lowest_fvu(level)))

    def sorts(self, axis: str) -> bool:
        """Whether figures sort the levels of this axis: they are many and have no order of their own."""
        levels = self.study.axes[axis]
        return len(levels) > MOST_HUES and all(isinstance(level, str) for level in levels)

    def _lowest_fvu(self, level: Level) -> float:
        known = (arm["fvu"] for arm in self.arms if self.level(arm) == level and arm["fvu"] is not None)
        return min(known, default=math.inf)

    @property
    def many_arms(self) -> bool:
        """Whether the colour axis has more levels than a reader can tell colours apart: then each has a panel or a
        label of its own, and colour says only which one is the reference."""
        return len(self.hues) > MOST_HUES

    @cached_property
    def combinations(self) -> list[Key]:
        """Combinations of the other axes that some arm has, in the order of the study file."""
        keys = unique(self.combination(arm) for arm in self.arms)
        return sorted(keys, key=lambda key: self.study.rank(self.rest, key))

    def combination(self, row: Row) -> Key:
        """The levels of the other axes in a row of any table."""
        return tuple(row[column(axis)] for axis in self.rest)

    def level(self, row: Row) -> Level:
        """The level of the colour axis in a row of any table."""
        return row[column(self.hue)] if self.hue is not None else None

    @cached_property
    def panels(self) -> list[Key]:
        """What small multiples have a panel of: each combination of the other axes; of all axes if many_arms."""
        if not self.many_arms:
            return self.combinations
        keys = unique(self.panel(arm) for arm in self.arms)
        return sorted(keys, key=lambda key: (self.hues.index(key[0]), self.combinations.index(key[1:])))

    @cached_property
    def shown_panels(self) -> list[Key]:
        """As many of the panels as one figure has room for: the baseline's, and those with the lowest FVU."""
        return self.best(self.panels, self.panel, MOST_PANELS)

    def best(self, groups: Sequence[Key], group_of: Callable[[Row], Key], most: int) -> list[Key]:
        """The groups of arms with the lowest FVU, at most so many, in their order, with the baseline's."""
        lowest = dict.fromkeys(groups, math.inf)
        for arm in self.arms:
            group = group_of(arm)
            if group in lowest and arm["fvu"] is not None:
                lowest[group] = min(lowest[group], arm["fvu"])
        first = None if self.baseline is None else group_of(self.baseline)
        chosen = sorted(groups, key=lambda group: (group != first, lowest[group]))[:most]
        return [group for group in groups if group in chosen]

    def panel(self, row: Row) -> Key:
        """The panel that a row of any table belongs to."""
        return (self.level(row), *self.combination(row)) if self.many_arms else self.combination(row)

    def beside(self, row: Row, panel: Key) -> bool:
        """Whether a row belongs to another panel of the same combination, in which it may be background."""
        return self.many_arms and self.panel(row) != panel and self.combination(row) == panel[1:]

    def panel_label(self, panel: Key) -> str:
        """As in `penalty 0.1, adam`, or in `aux-k, adam` if many_arms."""
        if not self.many_arms:
            return self.combination_label(panel)
        return self._panel_labels[panel]

    @cached_property
    def _panel_labels(self) -> dict[Key, str]:
        parts = [(self.level_label(panel[0]), self.combination_label(panel[1:])) for panel in self.panels]
        words = [", ".join(word for word in part if word) for part in parts]
        levels = [dict(zip(self.varying, panel, strict=True)) for panel in self.panels]
        return dict(zip(self.panels, unambiguous(levels, words), strict=True))

    def combination_label(self, key: Key) -> str:
        """As in `penalty 0.1, adam`."""
        return self._combination_labels[key]

    @cached_property
    def _combination_labels(self) -> dict[Key, str]:
        levels = [dict(zip(self.rest, key, strict=True)) for key in self.combinations]
        words = [self.study.describe(level) for level in levels]
        return dict(zip(self.combinations, unambiguous(levels, words), strict=True))

    def arm_label(self, row: Row) -> str:
        """The label of the arm that a row of any table belongs to."""
        levels = levels_in(row, self.study.compared)
        return str(next(arm["arm"] for arm in self.arms if levels_in(arm, self.study.compared) == levels))

    def level_label(self, level: Level) -> str:
        """As in `dense 2-2` or `k 32`."""
        if self.hue is None:
            return self.study.name
        return self.study.describe({self.hue: level}) or "–"

    def colour(self, level: Level) -> str:
        """The colour of a level of the colour axis; the reference always has the first, ink."""
        reference = None if self.hue is None else self.study.reference(self.hue)
        if self.many_arms:
            return PALETTE[0 if level == reference else 1]
        ordered = sorted(self.hues, key=lambda other: other != reference)
        return PALETTE[ordered.index(level)]

    def shape(self, level: Level) -> dict[str, Any]:
        """The marker of a level of the colour axis on a line, for those who see no colours; none if many_arms."""
        if self.many_arms or self.hue is None:
            return {}
        return {"marker": MARKERS[self.hues.index(level)], "ms": 4.5, "mew": 0}

    def marker(self, key: Key) -> str:
        """The marker of a combination of the other axes; the same for all without has_markers."""
        return MARKERS[self.combinations.index(key)] if self.has_markers else MARKERS[0]

    @property
    def has_markers(self) -> bool:
        """Whether each combination of the other axes has a marker of its own."""
        return bool(self.rest) and len(self.combinations) <= len(MARKERS)

    @property
    def confidence(self) -> str:
        """That of the intervals of arms and effects, as in `95 %`: higher where a study looks at seeds often."""
        return confidence(self.study)

    @property
    def seeds_note(self) -> str:
        """How many seeds there are and what the intervals are, as in every figure's note."""
        return self._seeds_note(self.confidence)

    @property
    def seeds_note_at_95(self) -> str:
        """The same of figures whose intervals no look makes wider."""
        return self._seeds_note("95 %")

    def _seeds_note(self, confidence: str) -> str:
        n = len(self.study.seeds)
        seeds = "one seed per setting, hence no intervals" if n == 1 else f"n = {n} seeds, {confidence} intervals"
        return f"{self.names_note}; {seeds}" if self.names_note else seeds

    @property
    def heldout_note(self) -> str:
        """What final figures are measured on, and whether FVU is compared at equal L0."""
        unequal = spread(self.study, self.arms)
        warning = f"; not at equal L0 ({unequal})" if unequal else ""
        return f"on {self.study.heldout_tokens:,} held-out tokens{warning}"

    @cached_property
    def dead_windows(self) -> list[int]:
        """The dead windows that arms have, in tokens."""
        axes = self.study.axes
        return sorted({self.study.dead_window_at(levels_in(arm, axes)) for arm in self.arms})

    @property
    def dead_window(self) -> str:
        """The dead window in words, as in `32,768` or `512 to 2,048, as the arm says`."""
        windows = self.dead_windows
        if len(windows) == 1:
            return f"{windows[0]:,}"
        return f"{windows[0]:,} to {windows[-1]:,}, as the arm says,"


def load_view(results: Path) -> View:
    """The view of a results folder. Raises UserError where study.json or a table is missing."""
    return View(read_study(results), {name: read_table(results, name).to_dicts() for name in TABLES})


def unique(values: Iterable[Item]) -> list[Item]:
    """Values without repetitions, in order of appearance."""
    return list(dict.fromkeys(values))
