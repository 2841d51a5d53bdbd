"""The table of docs/statistics.md."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.coverage.design import Scenario
from benchmarks.coverage.measure import Result
from benchmarks.table import table

COVERAGE, FAMILY = (93.0, 97.0), 6.0  # percent: what a row must keep
HEADS = ("study", "outcome", "n", "arms", "worst arm", "effects", "false verdict", "")


@dataclass(frozen=True)
class Rate:
    """A share of simulations in percent, with its Monte Carlo error."""

    percent: float
    error: float

    @classmethod
    def of(cls, shares: Sequence[float]) -> Rate:
        """shares: one a study; studies are independent, rows of one study are not."""
        return cls(100 * float(np.mean(shares)), 100 * float(np.std(shares)) / math.sqrt(len(shares)))

    def __str__(self) -> str:
        return f"{self.percent:.1f} ± {self.error:.1f}"

    def below(self, limit: float) -> bool:
        """By more than two Monte Carlo errors."""
        return self.percent + 2 * self.error < limit

    def above(self, limit: float) -> bool:
        return self.percent - 2 * self.error > limit


@dataclass(frozen=True)
class Line:
    """A scenario's row. worst: the kind of arm whose interval is right least often."""

    scenario: Scenario
    arms: Rate
    worst: Rate
    effects: Rate
    false: Rate

    @classmethod
    def of(cls, scenario: Scenario, found: Sequence[Result]) -> Line:
        alike: dict[Hashable, list[int]] = {}
        for number, arm in enumerate(scenario.arms):
            alike.setdefault((arm.effect, arm.spread, arm.dead, arm.seeds), []).append(number)
        by_kind = [
            Rate.of([float(np.mean([result.arms[number] for number in numbers])) for result in found])
            for numbers in alike.values()
        ]
        return cls(
            scenario,
            Rate.of([float(np.mean(result.arms)) for result in found]),
            min(by_kind, key=lambda rate: rate.percent),
            Rate.of([float(np.mean(result.effects)) for result in found]),
            Rate.of([float(result.false) for result in found]),
        )

    @property
    def outside(self) -> list[str]:
        """What is not kept, beyond Monte Carlo error."""
        low, high = COVERAGE
        said = []
        for name, rate in (("arms", self.arms), ("worst arm", self.worst), ("effects", self.effects)):
            if rate.below(low):
                said.append(f"{name} below {low:.0f}")
            elif rate.above(high) and name != "worst arm":
                said.append(f"{name} above {high:.0f}: too wide")
        if self.false.above(FAMILY):
            said.append(f"false verdicts above {FAMILY:.0f}")
        return said

    @property
    def unsafe(self) -> bool:
        """Whether the report promises more than it keeps."""
        return any("above 97" not in said for said in self.outside)


def markdown(lines: Sequence[Line]) -> str:
    rows = [
        (
            line.scenario.name,
            "FVU" if line.scenario.outcome == "fvu" else "dead",
            str(line.scenario.seeds),
            *(str(rate) for rate in (line.arms, line.worst, line.effects, line.false)),
            "; ".join(line.outside),
        )
        for line in lines
    ]
    return table(HEADS, rows)
