"""Which cells a worker trains together: cells that see the same batches, within limits of memory and work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.study.cells import CellSpec
from harness.study.concurrency import cells_at_once
from harness.study.memory import together
from harness.study.plan import Cost

LARGEST = 12  # cells, by default: more would save little, and delay all results
MOST_MICRO_BATCHES = 8  # in which a cell is tried before it fails for lack of memory
MAX_LOSSES = 5  # a cell fails when its worker has vanished this many times without progress


@dataclass(frozen=True)
class Limits:
    """Of one cohort."""

    cells: int
    bytes: int  # memory for its cells on the device
    work: float  # as in Cost: a worker's share of the remaining work


def batches_of(cell: CellSpec) -> tuple[int, int]:
    """Cells of one source that agree in these see the same batches (`harness.training.stream`)."""
    return cell.recipe.batch, cell.recipe.seed


def in_order(cells: Iterable[CellSpec], costs: Mapping[str, Cost]) -> list[CellSpec]:
    """Cells with the same batches next to each other, the longest first, so that none runs alone at the end."""
    groups: dict[tuple[int, int], list[CellSpec]] = {}
    for cell in sorted(cells, key=lambda cell: -costs[cell.id].work):
        groups.setdefault(batches_of(cell), []).append(cell)
    longest_first = sorted(groups.values(), key=lambda group: -sum(costs[cell.id].work for cell in group))
    return [cell for group in longest_first for cell in group]


class CohortQueue:
    """Cells that wait for a worker: first those started before, then those that `start_next` returns."""

    def __init__(self, start_next: Callable[[], CellSpec | None], costs: Mapping[str, Cost]) -> None:
        self._start_next = start_next
        self._costs = costs
        self._again: list[CellSpec] = []
        self._losses: Counter[str] = Counter()
        self._furthest: dict[str, int] = {}  # tokens
        self._micro_batches: dict[str, int] = {}  # of cells that ran out of memory

    def put_back(self, cells: Iterable[CellSpec]) -> None:
        """Add cells that have been started and have no worker."""
        self._again += cells

    def take(self, limits: Limits) -> list[CellSpec]:
        """The next cohort: at least one cell whatever the limits, unless no cell waits."""
        cohort: list[CellSpec] = []
        for cell in list(self._again):
            if self._fits(cell, cohort, limits):
                self._again.remove(cell)
                cohort.append(cell)
        while len(cohort) < limits.cells and (started := self._start_next()) is not None:
            if not self._fits(started, cohort, limits):
                self._again.append(started)
                break
            cohort.append(started)
        return cohort

    def _fits(self, cell: CellSpec, cohort: Sequence[CellSpec], limits: Limits) -> bool:
        if not cohort:
            return True
        members = (*cohort, cell)
        costs = [self._costs[member.id] for member in members]
        at_once = cells_at_once([member.recipe for member in members]) if costs[0].memory.graph else 1
        return (
            len(cohort) < limits.cells
            and batches_of(cell) == batches_of(cohort[0])
            and not self._goes_alone(cell)
            and not self._goes_alone(cohort[0])
            and sum(cost.work for cost in costs) - costs[-1].work / 2 <= limits.work
            and together((cost.memory for cost in costs), at_once) <= limits.bytes
        )

    def _goes_alone(self, cell: CellSpec) -> bool:
        """Whether it may have crashed its worker, or used all of its memory."""
        return bool(self._losses[cell.id]) or cell.id in self._micro_batches

    def moved(self, cell: str, tokens: int) -> None:
        """A cell has been trained on this many tokens. If that is progress, its earlier losses no longer count."""
        if tokens > self._furthest.get(cell, -1):
            self._furthest[cell] = tokens
            del self._losses[cell]

    def lost(self, cell: CellSpec) -> bool:
        """Its worker vanished. Returns whether it is tried again, alone; otherwise it has failed."""
        self._losses[cell.id] += 1
        return self._retry(cell, self._losses[cell.id] < MAX_LOSSES)

    def out_of_memory(self, cell: CellSpec) -> bool:
        """It ran out of memory. Returns whether it is tried again: alone, then in smaller micro-batches."""
        self._micro_batches[cell.id] = 2 * self._micro_batches.get(cell.id, 0) or 1
        return self._retry(cell, self._micro_batches[cell.id] <= MOST_MICRO_BATCHES)

    def _retry(self, cell: CellSpec, worth_it: bool) -> bool:
        if worth_it:
            self._again.append(cell)
        return worth_it

    def micro_batches(self, cohort: Sequence[str]) -> int:
        """Into how many micro-batches a cohort's batches are split: one, unless a cell alone needs more."""
        return max(self._micro_batches.get(cell, 1) for cell in cohort)
