"""Which cells a study prunes: a function of their curves and of their order alone.

A cell is judged at each point of its curve, against what the cells before it had at the same step: those, and only
those, that got there without being pruned. So it makes no difference when points arrive, or how many workers there
are. The price is that a verdict waits until the cells before it got there. It may come when the cell is further on
or has even ended; the cell then counts as pruned all the same. At its last step no cell is judged: it would spare
nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.scheduling.cell_folder import CellFolder, Record
from harness.study.cells import Cell
from harness.study.pruning import Median, Percentile, Pruning, SuccessiveHalving, Threshold


@dataclass
class _Course:
    """A cell's curve, as far as it is known."""

    cell: str
    steps: int  # of its recipe
    points: dict[int, Record] = field(default_factory=dict)  # by step, in their order
    ended: bool = False  # no point will follow
    judged: int = 0  # the last step at which it was judged
    pruned: bool = False  # at that step

    @property
    def last(self) -> int:
        return max(self.points, default=0)

    def fvu(self, step: int) -> float:
        value = float(self.points[step]["heldout_fvu"])
        return math.inf if math.isnan(value) else value

    def best(self, step: int) -> float:
        return min(self.fvu(s) for s in self.points if s <= step)


class Verdicts:
    """Judges cells by a study's rule, and writes the verdicts into their folders."""

    def __init__(self, rule: Pruning | None, folder: Callable[[str], CellFolder]) -> None:
        self._rule = rule
        self._folder = folder
        self._order: list[_Course] = []
        self._courses: dict[str, _Course] = {}
        self._next: dict[int, int] = {}  # step -> place in the order of the first cell that was not judged there
        self._there: dict[int, list[float]] = {}  # step -> FVUs of the cells before that one, sorted

    def add(self, cells: Iterable[Cell]) -> None:
        """Cells that are judged after all that were added before, in this order; with what is on disk of them."""
        if self._rule is None:
            return
        new = [_Course(cell.id, cell.recipe.steps) for cell in cells if cell.id not in self._courses]
        self._order += new
        self._courses |= {course.cell: course for course in new}
        for course in new:
            self._read(course)
            course.ended = self._folder(course.cell).trained()
        self._settle()
        for course in new:
            if not course.pruned:  # what an earlier run said may rest on cells that the study no longer has
                self._folder(course.cell).reprieve()

    def look(self, cells: Iterable[str]) -> None:
        """See how far these cells are, and judge what can be judged."""
        if self._rule is None:
            return
        for cell in cells:
            self._read(self._courses[cell])
        self._settle()

    def ended(self, cell: str) -> None:
        """No point will be added to a cell's curve."""
        if self._rule is not None:
            self._courses[cell].ended = True
            self.look([cell])

    def final(self, cell: str) -> bool:
        """Whether nothing more can be said of a cell that has ended."""
        if self._rule is None:
            return True
        course = self._courses[cell]
        return course.pruned or (course.ended and course.judged == course.last)

    def judged(self, cell: str) -> float:
        """The step up to which a cell's curve counts for the study, as far as that is known."""
        return math.inf if self._rule is None else self._courses[cell].judged

    def _read(self, course: _Course) -> None:
        if not course.pruned:
            course.points |= {point["step"]: point for point in self._folder(course.cell).points()}

    def _settle(self) -> None:
        """Judge each cell at each step once the cells before it have been, there and at the steps before."""
        if isinstance(self._rule, Threshold):  # compares with no other cell
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

    def _pass(self, course: _Course, step: int) -> bool:
        """Judge a cell at a step, if it comes there; whether that is known."""
        if course.pruned:
            return True
        if step in course.points:
            self._judge(course, step)
            return True
        return course.ended or course.last > step

    def _judge(self, course: _Course, step: int) -> None:
        rivals = self._there.setdefault(step, [])
        course.judged = step
        assert self._rule is not None
        if self._rule.warmup * course.steps <= step < course.steps and self._loses(course, step, rivals):
            course.pruned = True
            self._folder(course.cell).prune(course.points[step], self._rule.kind)
        insort(rivals, course.fvu(step))

    def _loses(self, course: _Course, step: int, rivals: list[float]) -> bool:
        """The rules of Optuna's pruners of these names; `rivals` in place of the trials that have finished."""
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


def _at_rung(rule: SuccessiveHalving, course: _Course, step: int) -> bool:
    """Whether this is a cell's first point at or behind a rung."""
    before = max((s for s in course.points if s < step), default=0)
    rung = max(1, round(rule.warmup * course.steps))
    while rung <= before:
        rung *= rule.reduction
    return rung <= step


def percentile(values: list[float], share: float) -> float:
    """Of sorted values, with linear interpolation; the median for 50."""
    place = (len(values) - 1) * share / 100
    low, high = values[math.floor(place)], values[math.ceil(place)]
    return low if low == high else low + (place - math.floor(place)) * (high - low)
