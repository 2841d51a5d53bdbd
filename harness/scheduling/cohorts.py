"""Which cells a worker trains together: those that see the same batches, as many as there is room and use for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.study.cells import Cell
from harness.study.memory import together
from harness.study.plan import Cost

LARGEST = 12  # cells, if nobody says otherwise: more would share little more, and their results all come late
MOST_MICRO_BATCHES = 8  # that a cell is tried in before memory is too small for it
MAX_LOSSES = 5  # times that a cell's worker may vanish before the cell comes any further: then it has failed


@dataclass(frozen=True)
class Limits:
    """Of one cohort."""

    cells: int
    bytes: int  # for its cells on the device
    work: float  # as in Cost; the share of a worker in all that is left to do


def batches_of(cell: Cell) -> tuple[int, int]:
    """Cells with the same of these, of one source, see the same batches: `harness.training.stream`."""
    return cell.recipe.batch, cell.recipe.seed


def in_order(cells: Iterable[Cell], costs: Mapping[str, Cost]) -> list[Cell]:
    """Those with the same batches one after the other; the longest first, so that none is alone at the end."""
    groups: dict[tuple[int, int], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: -costs[cell.id].work):
        groups.setdefault(batches_of(cell), []).append(cell)
    longest_first = sorted(groups.values(), key=lambda group: -sum(costs[cell.id].work for cell in group))
    return [cell for group in longest_first for cell in group]


class Queue:
    """Cells that wait for a worker: some that have been started before, then those that `start_next` gives."""

    def __init__(self, start_next: Callable[[], Cell | None], costs: Mapping[str, Cost]) -> None:
        self._start_next = start_next
        self._costs = costs
        self._again: list[Cell] = []
        self._losses: Counter[str] = Counter()
        self._furthest: dict[str, int] = {}  # tokens
        self._micro_batches: dict[str, int] = {}  # of cells that memory was too small for

    def put_back(self, cells: Iterable[Cell]) -> None:
        """Cells that have been started and have no worker."""
        self._again += cells

    def take(self, limits: Limits) -> list[Cell]:
        """The next cohort: at least one cell, whatever the limits, unless none waits."""
        cohort: list[Cell] = []
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

    def _fits(self, cell: Cell, cohort: Sequence[Cell], limits: Limits) -> bool:
        if not cohort:
            return True
        costs = [self._costs[member.id] for member in (*cohort, cell)]
        return (
            len(cohort) < limits.cells
            and batches_of(cell) == batches_of(cohort[0])
            and not self._goes_alone(cell)
            and not self._goes_alone(cohort[0])
            and sum(cost.work for cost in costs) - costs[-1].work / 2 <= limits.work
            and together(cost.memory for cost in costs) <= limits.bytes
        )

    def _goes_alone(self, cell: Cell) -> bool:
        """Whether it may be what ends its workers, or takes all their memory."""
        return bool(self._losses[cell.id]) or cell.id in self._micro_batches

    def moved(self, cell: str, tokens: int) -> None:
        """A cell has been trained on so many tokens: what it lost before does not count where that is new."""
        if tokens > self._furthest.get(cell, -1):
            self._furthest[cell] = tokens
            del self._losses[cell]

    def lost(self, cell: Cell) -> bool:
        """Its worker vanished; whether it is worth another try, which it has alone. Else it has failed."""
        self._losses[cell.id] += 1
        return self._retry(cell, self._losses[cell.id] < MAX_LOSSES)

    def crowded(self, cell: Cell) -> bool:
        """Memory ran out; whether it is worth another try: alone, then in ever smaller micro-batches."""
        self._micro_batches[cell.id] = 2 * self._micro_batches.get(cell.id, 0) or 1
        return self._retry(cell, self._micro_batches[cell.id] <= MOST_MICRO_BATCHES)

    def _retry(self, cell: Cell, worth_it: bool) -> bool:
        if worth_it:
            self._again.append(cell)
        return worth_it

    def micro_batches(self, cohort: Sequence[str]) -> int:
        """In how many a cohort is to be trained: one, unless it is a cell alone that needs more."""
        return max(self._micro_batches.get(cell, 1) for cell in cohort)
