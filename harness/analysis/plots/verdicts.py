"""How a verdict looks: by colour, and by shape for those who see no colours or print without them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.lines import Line2D

from harness.analysis.plots.style import HIGHER, LEVEL, LOWER
from harness.metrics import Metric


@dataclass(frozen=True)
class Mark:
    """The marker of a verdict; hollow ones say that nothing was shown."""

    label: str
    colour: str
    marker: str
    size: float  # relative: shapes of equal width look unequal
    hollow: bool = False

    def style(self, size: float) -> dict[str, Any]:
        """What `Axes.plot` is given for a marker of this size."""
        face = "white" if self.hollow else self.colour
        return {"marker": self.marker, "ms": size * self.size, "mfc": face, "mec": self.colour, "mew": 1.1}


MARKS = {
    "better": Mark("better", LOWER, "o", 1.0),
    "worse": Mark("worse", HIGHER, "s", 0.9),
    "equal": Mark("equal within the study's margin", LEVEL, "D", 0.85),
    "undecided": Mark("undecided", LEVEL, "o", 1.0, hollow=True),
}


def mark_of(outcome: Metric, verdict: str | None) -> Mark:
    """The mark of a verdict on an outcome; one that is neither of a difference nor of equality is undecided."""
    word = verdict or ""
    judged = outcome.judge(word)
    if judged in ("better", "worse"):
        return MARKS[judged]
    return MARKS["equal" if word.startswith("equal") else "undecided"]


def legend(marks: Iterable[Mark]) -> list[Line2D]:
    """Better, worse and undecided, and equal where it occurs."""
    found = set(marks)
    return [
        Line2D([], [], color=mark.colour, lw=1.8, label=mark.label, **mark.style(6))
        for name, mark in MARKS.items()
        if name != "equal" or mark in found
    ]
