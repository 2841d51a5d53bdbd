"""Which arms a look leaves: those of undecided comparisons, and what they are compared with."""

import pytest

from harness.analysis.effects.undecided import undecided_arms
from tests.analysis.synthetic_results import cell_record, study_record

SEEDS = [0, 1, 2]
SPREAD = [0.001, -0.001, 0.0]


def look(fvu, axes, seeds=3, **changes):
    """Cells of arms with this FVU on average, at `seeds` seeds each, or at as many as a second number says."""
    cells = []
    for number, (arm, value) in enumerate(fvu.items()):
        mean, count = value if isinstance(value, tuple) else (value, seeds)
        levels = dict(zip(axes, arm, strict=True))
        off = [SPREAD[(seed + number) % 3] for seed in range(count)]  # chance, in another order in every arm
        cells += [cell_record(levels, s, mean and mean + x, dead=0.1 + 50 * x) for s, x in enumerate(off)]
    record = study_record("looked", axes, list(range(seeds)), tuned=[], looks=[3, 6], cells=len(cells), **changes)
    return undecided_arms(record, cells)


LAYERS = {"layers": ["none", "dense 2-2", "sparse 3"]}


def test_an_undecided_arm_goes_on_with_its_reference():
    assert look({("none",): 0.1, ("dense 2-2",): 0.1002, ("sparse 3",): 0.05}, LAYERS) == {
        ("none",),
        ("dense 2-2",),
    }


def test_nothing_goes_on_where_everything_is_decided():
    assert look({("none",): 0.1, ("dense 2-2",): 0.2, ("sparse 3",): 0.05}, LAYERS) == set()


def test_an_arm_that_stopped_before_neither_goes_on_nor_keeps_its_reference():
    found = look({("none",): 0.1, ("dense 2-2",): (0.1002, 3), ("sparse 3",): 0.05}, LAYERS, seeds=6)
    assert found == set()


def test_an_arm_without_results_has_no_verdict_yet():
    found = look({("none",): 0.1, ("dense 2-2",): 0.2, ("sparse 3",): None}, LAYERS)
    assert found == {("none",), ("sparse 3",)}


def test_with_two_axes_the_reference_is_the_arm_that_is_equal_otherwise():
    axes = {"layers": ["none", "dense 2-2"], "optimizer": ["adam", "muon"]}
    fvu = {
        ("none", "adam"): 0.1,
        ("none", "muon"): 0.05,
        ("dense 2-2", "adam"): 0.2,
        ("dense 2-2", "muon"): 0.2002,
    }
    assert look(fvu, axes) == {("dense 2-2", "adam"), ("dense 2-2", "muon")}


@pytest.mark.parametrize(("stated", "goes_on"), [({"dead": 2.0}, True), ({"fvu": 2.0}, False)])
def test_outcomes_with_an_indifference_decide(stated, goes_on):
    """FVU differs clearly, dead latents by chance alone, but by more than 2 points from seed to seed."""
    found = look({("none",): 0.1, ("dense 2-2",): 0.2}, {"layers": ["none", "dense 2-2"]}, indifference=stated)
    assert bool(found) is goes_on


def test_a_choice_that_is_not_settled_leaves_dead_latents_undecided():
    """Two rates of equal FVU have very different dead latents: which is chosen decides what is compared."""
    axes = {"layers": ["none", "dense 2-2"], "lr": [0.01, 0.02]}
    cells = [
        cell_record({"layers": layers}, seed, fvu * (1 + SPREAD[seed]), {"lr": lr}, dead=dead + more)
        for layers, more in (("none", 0.0), ("dense 2-2", 0.05))
        for lr, fvu, dead in ((0.01, 0.1, 0.05), (0.02, 0.10001, 0.30))
        for seed in SEEDS
    ]
    record = study_record("looked", axes, SEEDS, tuned=["lr"], looks=[3, 6], cells=12, indifference={"dead": 0.1})
    assert undecided_arms(record, cells) == {("none",), ("dense 2-2",)}
