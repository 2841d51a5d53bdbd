"""Which cells are pruned does not depend on when their points arrive, only on what they are."""

import math
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.study.pruning import Median, Percentile, Pruning, SuccessiveHalving, Threshold
from harness.sweep.pruner import Pruner, percentile

STEPS = 12
RULES = [
    Median(startup=2, warmup=0.25),
    Percentile(percentile=25, startup=1, warmup=0),
    SuccessiveHalving(reduction=2, warmup=0.25),
    Threshold(fvu=0.7, warmup=0.5),
]


@dataclass
class Folder:
    """As CellFolder, in memory."""

    written: list[dict] = field(default_factory=list)
    done: bool = False
    verdict: int | None = None  # the step

    def points(self) -> list[dict]:
        return self.written

    def trained(self) -> bool:
        return self.done

    def prune(self, point: dict, rule: str) -> None:
        self.verdict = point["step"]

    def reprieve(self) -> None:
        self.verdict = None


def cell(name: str) -> SimpleNamespace:
    return SimpleNamespace(id=name, recipe=SimpleNamespace(steps=STEPS))


def points(curve: list[float]) -> list[dict]:
    return [{"step": step, "tokens": 10 * step, "heldout_fvu": fvu} for step, fvu in enumerate(curve, 1)]


def at_once(rule: Pruning, curves: list[list[float]]) -> dict[str, int | None]:
    folders = {str(n): Folder(points(curve), done=True) for n, curve in enumerate(curves)}
    Pruner(rule, folders.__getitem__).add(map(cell, folders))
    return {name: folder.verdict for name, folder in folders.items()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
@given(cells=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_verdicts_are_the_same_in_whatever_order_points_arrive(rule, cells, seed):
    dice = random.Random(seed)
    curves = [[fvu(dice) for _ in range(dice.choice([STEPS, dice.randint(0, STEPS)]))] for _ in range(cells)]
    expected = at_once(rule, curves)
    folders = {str(n): Folder() for n in range(cells)}
    pruner = Pruner(rule, folders.__getitem__)
    pruner.add(map(cell, folders))
    left = {name: points(curves[int(name)]) for name in folders}
    while left:
        name = dice.choice(sorted(left))
        if left[name]:
            folders[name].written.append(left[name].pop(0))
        elif dice.random() < 0.5:  # its end is known later than its last point
            del left[name]
            pruner.ended(name)
        if dice.random() < 0.5:
            pruner.look([name])
        if dice.random() < 0.1:  # another controller, which knows what is on disk
            for other, its in folders.items():
                its.done = other not in left
            pruner = Pruner(rule, folders.__getitem__)
            pruner.add(map(cell, folders))
    assert {name: folder.verdict for name, folder in folders.items()} == expected
    for name, folder in folders.items():
        assert pruner.final(name)
        assert pruner.judged(name) == (folder.verdict or len(curves[int(name)]))


def fvu(dice: random.Random) -> float:
    return math.nan if dice.random() < 0.02 else dice.random()


def test_a_verdict_waits_for_the_cells_before_it_and_then_holds_for_one_that_has_ended():
    folders = {name: Folder() for name in "ab"}
    pruner = Pruner(Median(startup=1, warmup=0), folders.__getitem__)
    pruner.add(map(cell, folders))
    folders["b"].written = points([0.9, 0.8])
    pruner.ended("b")
    assert not pruner.final("b")
    folders["a"].written = points([0.5])
    pruner.look("a")
    assert folders["b"].verdict == 1
    assert pruner.final("b")
    assert not pruner.final("a")
    pruner.ended("a")
    assert pruner.final("a")


def test_a_verdict_that_rests_on_cells_that_are_gone_is_taken_back():
    folder = Folder(points([0.9, 0.8]), verdict=1)
    Pruner(Median(startup=1, warmup=0), lambda _: folder).add([cell("b")])
    assert folder.verdict is None


def test_the_first_cells_and_the_first_steps_are_spared():
    rule = Median(startup=2, warmup=0.5)
    curves = [[0.1] * STEPS, [0.2] * STEPS, [0.9] * STEPS]
    assert at_once(rule, curves) == {"0": None, "1": None, "2": 6}
    assert at_once(rule, curves[1:]) == {"0": None, "1": None}


def test_halving_lets_the_best_so_far_go_on_at_each_rung():
    rule = SuccessiveHalving(reduction=2, warmup=0.25)  # rungs at steps 3, 6 and 12
    curves = [[value] * STEPS for value in (0.5, 0.6, 0.4, 0.45)]
    assert at_once(rule, curves) == {"0": None, "1": 3, "2": None, "3": 6}
    assert at_once(rule, [*curves, [0.9] * STEPS, [0.44] * STEPS])["5"] is None  # second of 6, then of 4


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9).map(sorted), st.floats(0, 100))
def test_percentiles_are_numpys(values, share):
    assert percentile(values, share) == pytest.approx(np.percentile(values, share))
