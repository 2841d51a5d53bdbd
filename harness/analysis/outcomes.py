"""What arms are compared by: a list to which a figure of merit is added in one line."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Outcome:
    """A held-out figure that effects, arms, findings and figures show.

    `name`: its key in a cell's `heldout`, and its column in the tables. `scale` turns the tables' unit into the
    shown one, `unit`, in which it has `digits` behind the point. `change`: whether a difference is in percent of
    the reference or in points of the shown unit. `optional`: not every source allows to measure it; its
    `definition` stands wherever it is shown.
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
    definition: str = ""

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


def _feature(name: str, label: str, definition: str) -> Outcome:
    return Outcome(
        name, label, f"{label}, %", 100, " %", 1, "points", "higher", optional=True, definition=definition
    )


FVU = Outcome("fvu", "FVU", "held-out FVU", 1, "", 4, "percent", "lower")
DEAD = Outcome("dead_fraction", "dead latents", "dead on held-out tokens, %", 100, " %", 1, "points", "lower")
MCC = _feature(
    "mcc", "MCC", "mean over features of |correlation| with the matched latent; one to one, 0 where unmatched"
)
FEATURES = (  # only where the source knows its features
    MCC,
    _feature("f1", "F1", "mean over features of the F1 of “the matched latent fires” for “the feature fires”"),
    _feature(
        "uniqueness",
        "uniqueness",
        "distinct features that firing latents correlate best with / the smaller of the counts of both",
    ),
)
OUTCOMES = (FVU, DEAD, *FEATURES)


def present(names: Container[str]) -> tuple[Outcome, ...]:
    """The outcomes to be shown where only the optional ones among `names` were measured."""
    return tuple(outcome for outcome in OUTCOMES if not outcome.optional or outcome.name in names)


def definitions(outcomes: Iterable[Outcome]) -> list[tuple[str, str]]:
    """Label and definition of each outcome that has one."""
    return [(outcome.label, outcome.definition) for outcome in outcomes if outcome.definition]
