"""How much figures differ between two trainings of the same cells, as on two processors, against seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

from harness.analysis.results.records import CellRecord, Figures
from harness.metrics import DEAD

if TYPE_CHECKING:
    from harness.analysis.studies.compared import Result


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a figure: of log FVU, of a fraction.

    rerun: of one training of a cell about the mean of many, estimated from the differences of two. seed: between
    seeds of an arm at one tuned setting. shift: mean difference, second result minus first.
    """

    cells: int
    rerun: float
    seed: float | None
    shift: float


@dataclass(frozen=True)
class Reruns:
    """Cells of two results that are the same.

    same_identity: those with the same recipe, activations and code. identical: those whose figures, as far as both
    have them, are the same to the last bit, because one training made both or training was repeated exactly.
    only: complete in one alone.
    """

    cells: int
    same_identity: int
    identical: int
    only: tuple[int, int]
    log_fvu: Spread | None
    dead: Spread | None


def reruns(first: Result, second: Result, matched: Sequence[tuple[CellRecord, CellRecord]]) -> Reruns | None:
    """Compare the same cells of two results; None where there are none."""
    if not matched:
        return None
    complete = [(one.state == "complete", other.state == "complete") for one, other in matched]
    both = [pair for pair, ended in zip(matched, complete, strict=True) if all(ended)]
    return Reruns(
        cells=len(matched),
        same_identity=sum(one.cell == other.cell for one, other in matched),
        identical=sum(_identical(one.heldout or {}, other.heldout or {}) for one, other in both),
        only=(complete.count((True, False)), complete.count((False, True))),
        log_fvu=_spread(first, second, both, _log_fvu),
        dead=_spread(first, second, both, lambda cell: cell.figure(DEAD.name)),
    )


def _identical(one: Figures, other: Figures) -> bool:
    known = one.keys() & other.keys()
    return bool(known) and all(one[metric] == other[metric] for metric in known)


def _log_fvu(cell: CellRecord) -> float | None:
    return math.log(cell.fvu) if cell.fvu else None


def _spread(
    first: Result,
    second: Result,
    both: Sequence[tuple[CellRecord, CellRecord]],
    figure: Callable[[CellRecord], float | None],
) -> Spread | None:
    """None where no cell has the figure in both results."""
    groups: dict[Any, list[float]] = {}  # result, arm and tuned setting -> figures of its seeds
    changes = []
    for cells in both:
        figures = [known for cell in cells if (known := figure(cell)) is not None]
        if len(figures) == len(cells):
            changes.append(figures[1] - figures[0])
            for result, cell, value in zip((first, second), cells, figures, strict=True):
                groups.setdefault((id(result), *result.key(cell)[:2]), []).append(value)
    if not changes:
        return None
    rerun = math.sqrt(fmean(change**2 for change in changes) / 2)
    return Spread(len(changes), rerun, _pooled(list(groups.values())), fmean(changes))


def _pooled(groups: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation within groups; None where no group has two values."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum((len(group) - 1) * variance(group) for group in groups if len(group) > 1)
    return math.sqrt(squares / freedom) if freedom else None
