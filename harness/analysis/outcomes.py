"""What arms are compared by: a list to which a figure of merit is added in one line."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Outcome:
    """A held-out figure that effects, arms, findings and figures show.

    `name`: its key in a cell's `heldout`, and its column in the tables. `scale` turns the tables' unit into the
    shown one, `unit`, in which it has `digits` behind the point. `change`: whether a difference is in percent of
    the reference or in points of the shown unit. `optional`: not every source allows to measure it.
    """

    name: str
    label: str
    axis: str
    scale: int
    unit: str
    digits: int
    change: Literal["percent", "points"]
    better: Literal["lower", "higher"]
    optional: bool = False

    @property
    def short(self) -> str:
        """What its columns of the effects table begin with."""
        return self.name.removesuffix("_fraction")

    @property
    def effect(self) -> str:
        """The column of the effects table with its change."""
        return f"{self.short}_{self.change}"

    @property
    def verdict(self) -> str:
        """The column of the effects table with the verdict on that change."""
        return f"{self.short}_verdict"

    def judge(self, verdict: str) -> str:
        """`better`, `worse` or `level`, from a verdict of `harness.analysis.statistics`."""
        if verdict not in ("lower", "higher"):
            return "level"
        return "better" if verdict == self.better else "worse"


FVU = Outcome("fvu", "FVU", "held-out FVU", 1, "", 4, "percent", "lower")
DEAD = Outcome("dead_fraction", "dead latents", "dead latents, %", 100, " %", 1, "points", "lower")
FEATURES = (  # only where the source knows its features
    Outcome("mcc", "MCC", "MCC, %", 100, " %", 1, "points", "higher", optional=True),
    Outcome("f1", "F1", "F1, %", 100, " %", 1, "points", "higher", optional=True),
    Outcome("uniqueness", "uniqueness", "uniqueness, %", 100, " %", 1, "points", "higher", optional=True),
)
OUTCOMES = (FVU, DEAD, *FEATURES)


def present(names: Container[str]) -> tuple[Outcome, ...]:
    """The outcomes to be shown where only the optional ones among `names` were measured."""
    return tuple(outcome for outcome in OUTCOMES if not outcome.optional or outcome.name in names)
