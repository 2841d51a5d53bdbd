"""Names that the tables of the frontier and the senses share with figures and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.comparability.l0 import TOLERANCE
from harness.analysis.results.levels import column
from harness.analysis.results.records import StudyRecord
from harness.metrics import DEAD, FVU, L0
from harness.study.labels import describe

Row = dict[str, Any]

REPORTED, TUNING = "reported", "tuning"  # which seeds a row is of
ON, UNSURE, DOMINATED = "on the frontier", "not separable", "dominated"  # the place of a point on a plane
HOLDS, FLIPS, NOT_SHOWN, ONLY_HERE = "holds", "flips", "not shown here", "shown here only"  # a verdict in a sense
SHOWN = ("lower", "higher")


@dataclass(frozen=True)
class Plane:
    """FVU against a cost. name: what its columns begin with. tolerance: relative, within it two costs are equal.

    measured: the cost has intervals.
    """

    name: str
    cost: str
    tolerance: float = TOLERANCE
    measured: bool = False


PLANES = (Plane("dead", DEAD.name, 0.0, measured=True), Plane("l0", L0.name), Plane("flops", "training_flops"))


def point_name(study: StudyRecord, row: Row) -> str:
    """As in `dense 2-2, adam at lr 0.016`."""
    tuned = describe({axis: row[column(axis)] for axis in study.tuned})
    return f"{row['arm']} at {tuned}" if tuned else str(row["arm"])


def front(rows: Sequence[Row], plane: Plane) -> list[Row]:
    """The points on the frontier of a plane, from the cheapest to the dearest."""
    on = [row for row in rows if row[f"{plane.name}_place"] == ON]
    return sorted(on, key=lambda row: (float(row[plane.cost]), float(row[FVU.name])))
