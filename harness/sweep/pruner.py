"""Which cells a study prunes: a function of their curves and their order alone.

At each point of its curve, a cell is compared with those cells before it in the order that reached the same step
without being pruned. So it makes no difference when points arrive, or how many workers there are. The price is
that a decision has to wait until the earlier cells have reached the step. By then the cell may be further on or
have ended; it counts as pruned all the same. No cell is pruned at its last step, which would save nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.study.cells import CellSpec
from harness.study.pruning import Median, Percentile, Pruning, SuccessiveHalving, Threshold
from harness.workers.cell_folder import CellFolder, Record


@dataclass
class _CellCurve:
    """A cell's curve so far."""

    cell: str
    steps: int  # of its recipe
    points: dict[int, Record] = field(default_factory=dict)  # those with held-out figures, by step, in order
    ended: bool = False  # no more points will follow
    judged: int = 0  # the last step with a decision
    pruned: bool = False  # at that step

    @property
    def last(self) -> int:
        return max(self.points, default=0)

    def fvu(self, step: int) -> float:
        value = float(self.points[step]["heldout_fvu"])
        return math.inf if math.isnan(value) else value

    def best(self, step: int) -> float:
        return min(self.fvu(s) for s in self.points if s <= step)


class Pruner:
    """Decides by a study's rule which cells are pruned, and writes that into their folders."""

    def __init__(self, rule: Pruning | None, folder: Callable[[str], CellFolder]) -> None:
        self._rule = rule
        self._folder = folder
        self._order: list[_CellCurve] = []
        self._courses: dict[str, _CellCurve] = {}
        self._next: dict[int, int] = {}  # step -> index of the first cell without a decision there
        self._there: dict[int, list[float]] = {}  # step -> sorted FVUs of the cells before that one

    def add(self, cells: Iterable[CellSpec]) -> None:
        """Add cells after those added before, in this order, with their curves on disk."""
        if self._rule is None:
            return
        new = [_CellCurve(cell.id, cell.recipe.steps) for cell in cells if cell.id not in self._courses]
        self._order += new
        self._courses |= {course.cell: course for course in new}
        for course in new:
            self._read(course)
            course.ended = self._folder(course.cell).trained()
        self._update()
        for course in new:
            if not course.pruned:  # an earlier run may have compared with cells that the study no longer has
                self._folder(course.cell).reprieve()

    def look(self, cells: Iterable[str]) -> None:
        """Read the curves of these cells, and decide what can be decided."""
        if self._rule is None:
            return
        for cell in cells:
            self._read(self._courses[cell])
        self._update()

    def ended(self, cell: str) -> None:
        """No more points will be added to a cell's curve."""
        if self._rule is not None:
            self._courses[cell].ended = True
            self.look([cell])

    def final(self, cell: str) -> bool:
        """Whether the state of a cell that has ended can no longer change."""
        if self._rule is None:
            return True
        course = self._courses[cell]
        return course.pruned or (course.ended and course.judged == course.last)

    def judged(self, cell: str) -> float:
        """The step up to which a cell's curve is known to count for the study."""
        return math.inf if self._rule is None else self._courses[cell].judged

    def _read(self, course: _CellCurve) -> None:
        if not course.pruned:
            points = [point for point in self._folder(course.cell).points() if "heldout_fvu" in point]
            course.points |= {point["step"]: point for point in points}

    def _update(self) -> None:
        """Decide about each cell at each step, after the cells before it and the earlier steps."""
        if isinstance(self._rule, Threshold):  # does not compare cells
            for course in self._order:
                for step in [step for step in course.points if step > course.judged]:
                    if not course.pruned:
                        self._judge(course, step)
            return
        limit = len(self._order)
        for step in sorted({step for course in self._order for step in course.points}):
            place = self._next.get(step, 0)
            while place < limit and self._pass(self._order[place], step):
                place += 1
            self._next[step] = limit = place

    def _pass(self, course: _CellCurve, step: int) -> bool:
        """Decide about a cell at a step, if it reaches it. Returns whether that is known."""
        if course.pruned:
            return True
        if step in course.points:
            self._judge(course, step)
            return True
        return course.ended or course.last > step

    def _judge(self, course: _CellCurve, step: int) -> None:
        rivals = self._there.setdefault(step, [])
        course.judged = step
        assert self._rule is not None
        if self._rule.warmup * course.steps <= step < course.steps and self._loses(course, step, rivals):
            course.pruned = True
            self._folder(course.cell).prune(course.points[step], self._rule.kind)
        insort(rivals, course.fvu(step))

    def _loses(self, course: _CellCurve, step: int, rivals: list[float]) -> bool:
        """The rules of Optuna's pruners of these names; `rivals` take the place of the finished trials."""
        match self._rule:
            case Median(startup=startup):
                return len(rivals) >= startup and course.best(step) > percentile(rivals, 50)
            case Percentile(startup=startup, percentile=share):
                return len(rivals) >= startup and course.best(step) > percentile(rivals, share)
            case SuccessiveHalving():
                promoted = max(1, (len(rivals) + 1) // self._rule.reduction)
                return _at_rung(self._rule, course, step) and bisect_left(rivals, course.fvu(step)) >= promoted
            case Threshold(fvu=bound):
                return course.fvu(step) > bound
        return False


def _at_rung(rule: SuccessiveHalving, course: _CellCurve, step: int) -> bool:
    """Whether this is a cell's first point at or after a rung."""
    before = max((s for s in course.points if s < step), default=0)
    rung = max(1, round(rule.warmup * course.steps))
    while rung <= before:
        rung *= rule.reduction
    return rung <= step


def percentile(values: list[float], share: float) -> float:
    """A percentile of sorted values, with linear interpolation; the median for 50."""
    place = (len(values) - 1) * share / 100
    low, high = values[math.floor(place)], values[math.ceil(place)]
    return low if low == high else low + (place - math.floor(place)) * (high - low)
