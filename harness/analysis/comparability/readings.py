"""Where both sides of a comparison are read: at the end of training, on their curves, or between other arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.analysis.arms.arm import Arm
from harness.analysis.comparability.budgets import Costs, Curve, costs_of, equal
from harness.analysis.comparability.matched import (
    AS_MANY,
    Matched,
    at_equal_alive,
    at_equal_parameters,
    with_figures,
)
from harness.analysis.effects.comparisons import Pair
from harness.analysis.results.levels import Level
from harness.analysis.results.records import CellRecord, Figures, StudyRecord
from harness.metrics import DEAD, FVU, L0

END, BEFORE = "end of training", "before the decay"
TOKENS, FLOPS, TIME, PARAMETERS, ALIVE = "tokens", "training FLOPs", "time", "parameters", "alive latents"
SECONDS = "s on one CPU core (estimated)"
SILENT = "silent_fraction"


@dataclass(frozen=True)
class Reading:
    """A pair of arms with the figures that both sides have where something is equal. level: as the study has it.

    at: the end of training, before the decay, or how the sides were matched. budget: what both have, in `unit`.
    tokens: that the arm and its reference have trained on. reason: why there is nothing to compare.
    """

    axis: str
    level: Level
    pair: Pair
    sense: str
    at: str = ""
    budget: float | None = None
    unit: str = ""
    tokens: tuple[float | None, float | None] = (None, None)
    reason: str = ""

    @property
    def key(self) -> tuple[str, Level, str]:
        """Tells the pair from the others of a study."""
        return self.axis, self.level, self.pair.arm.label

    @property
    def family(self) -> str:
        """Whose verdicts are adjusted for each other: those at the end of training, or those in one sense."""
        return END if self.at in (END, AS_MANY) else self.sense

    @property
    def group(self) -> tuple[Any, ...]:
        """Readings with the same are compared with one estimate of the spread."""
        alone = self.key if self.family in (PARAMETERS, ALIVE) else ()
        return self.family, None if self.family == END else self.budget, alone


@dataclass
class Reader:
    """The arms of a study with their costs and curves; what was read of an arm is kept."""

    study: StudyRecord
    arms: Sequence[Arm]
    curves: Mapping[str, Curve]
    costs: dict[str, Costs | None] = field(default_factory=dict)
    _read: dict[tuple[str, float | None], Arm | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.costs = {arm.label: costs_of(self.study, arm, self.curves) for arm in self.arms}

    def readings(self, axis: str, level: Level, pair: Pair) -> Iterator[Reading]:
        """One a sense; two of tokens, where the learning rate falls before the end."""
        start = Reading(axis, level, pair, TOKENS)
        own, other = (self.costs[arm.label] for arm in (pair.arm, pair.reference))
        if own is None or other is None:
            yield replace(start, at=END, reason="no result")
            return
        end = self._at_the_end(replace(start, unit="tokens"), (own, other), (1.0, 1.0))
        yield end
        tokens = min(own.before_decay, other.before_decay)
        if tokens < max(own.tokens, other.tokens):
            yield self._on_curves(replace(start, budget=tokens, unit="tokens"), (1.0, 1.0))
        yield self._spent(replace(start, sense=FLOPS, unit="FLOPs"), (own, other), (own.flops, other.flops))
        timed = replace(start, sense=TIME, unit=SECONDS)
        if own.seconds is None or other.seconds is None:
            yield replace(timed, reason="the step model does not know the recipe")
        else:
            yield self._spent(timed, (own, other), (own.seconds, other.seconds))
        yield _matched(end, PARAMETERS, "parameters", at_equal_parameters(self.arms, pair, self.costs, axis))
        yield _matched(end, ALIVE, "latents", at_equal_alive(self.study, pair))

    def _at_the_end(self, reading: Reading, costs: tuple[Costs, Costs], each: tuple[float, float]) -> Reading:
        """Both with their last figures. each: what a token costs them, in the unit of the budget."""
        tokens = costs[0].tokens, costs[1].tokens
        spent, other = tokens[0] * each[0], tokens[1] * each[1]
        budget = other if equal(spent, other) else None
        return self._read_at(replace(reading, at=END, tokens=tokens, budget=budget), (None, None))

    def _spent(self, reading: Reading, costs: tuple[Costs, Costs], each: tuple[float, float]) -> Reading:
        """At a budget that both spend before their rates fall; at the end where a token costs both the same."""
        if equal(*each) and costs[0].tokens == costs[1].tokens:
            return self._at_the_end(reading, costs, each)
        budget = min(cost.before_decay * price for cost, price in zip(costs, each, strict=True))
        return self._on_curves(replace(reading, budget=budget), each)

    def _on_curves(self, reading: Reading, each: tuple[float, float]) -> Reading:
        assert reading.budget is not None
        tokens = reading.budget / each[0], reading.budget / each[1]
        return self._read_at(replace(reading, at=BEFORE, tokens=tokens), tokens)

    def _read_at(self, reading: Reading, tokens: tuple[float | None, float | None]) -> Reading:
        arm, reference = (self._arm(side, at) for side, at in zip(_sides(reading.pair), tokens, strict=True))
        if isinstance(arm, str):
            return replace(reading, reason=arm)
        if isinstance(reference, str):
            return replace(reading, reason=reference)
        return replace(reading, pair=replace(reading.pair, arm=arm, reference=reference))

    def _arm(self, arm: Arm, tokens: float | None) -> Arm | str:
        """The arm after so many tokens (None: all of them), or why it cannot be read there."""
        if (arm.label, tokens) not in self._read:
            self._read[arm.label, tokens] = self._read_arm(arm, tokens)
        return self._read[arm.label, tokens]

    def _read_arm(self, arm: Arm, tokens: float | None) -> Arm | str:
        cost = self.costs[arm.label]
        if tokens is None:
            return with_figures(arm, self._last)
        if cost is not None and tokens < cost.warmup:
            return f"{arm.label}: {tokens:,.0f} tokens, while its learning rate still rises"
        there = with_figures(arm, lambda cell: self._at(cell, tokens))
        if there.values(FVU.name):
            return there
        curves = [self.curves[cell.cell] for cell in arm.finished().values() if cell.cell in self.curves]
        return f"{arm.label}: {tokens:,.0f} tokens, and {_beginning(curves)}"

    def _last(self, cell: CellRecord) -> Figures:
        curve = self.curves.get(cell.cell)
        silent = curve.silent[-1][1] if curve is not None and curve.silent else None
        return {SILENT: silent, **{name: cell.figure(name) for name in (FVU.name, DEAD.name, L0.name)}}

    def _at(self, cell: CellRecord, tokens: float) -> Figures:
        curve = self.curves.get(cell.cell)
        if curve is None or (fvu := curve.fvu_at(tokens)) is None:
            return {}
        return {FVU.name: fvu, L0.name: cell.figure(L0.name), SILENT: curve.silent_at(tokens)}


def _beginning(curves: Sequence[Curve]) -> str:
    if not curves:
        return "it has no curve"
    first = min(curve.fvu[0][0] for curve in curves)
    if any(curve.shortened for curve in curves):
        return f"more latents are active than at the end until {first:,}"
    return f"its curve begins at {first:,}"


def _matched(end: Reading, sense: str, unit: str, found: Matched | str) -> Reading:
    """end: the pair at the end of training, which stays where both sides have as many already."""
    if isinstance(found, str):
        return replace(end, sense=sense, at="", budget=None, unit=unit, reason=found)
    pair = end.pair if found.how == AS_MANY else found.pair
    return replace(end, pair=pair, sense=sense, at=found.how, budget=found.value, unit=unit)


def _sides(pair: Pair) -> tuple[Arm, Arm]:
    return pair.arm, pair.reference
