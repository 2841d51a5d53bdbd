"""Designs that leave settings out: a full recipe minus one component, a balanced fraction, a sample."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.study import fraction
from harness.study.arms import arms
from harness.study.designed import designed
from harness.study.fraction import balanced, main_effects
from harness.study.grid import levels, recipes, settings
from harness.study.known import possible_cells, size
from harness.study.spec import load_study
from tests.study.conftest import SOURCE

SHARED = """question: Which components matter?
source: source.yaml
recipe: {latents: 64, k: 4, tokens: 1000, batch: 100}
axes:
"""
RATES = "  lr: {tune: true, values: [1e-3, 2e-3]}\n"
SEEDS = "seeds: [0, 1]\n"


@pytest.fixture
def load(tmp_path):
    """Loads a study with these axes and this design."""

    def load(axes: str, design: str, shared: str = SHARED):
        (tmp_path / "source.yaml").write_text(SOURCE)
        (tmp_path / "study.yaml").write_text(f"{shared}{axes}{SEEDS}design: {design}\n")
        return load_study(tmp_path / "study.yaml")

    return load


COMPONENTS = """  layers: [none, sparse 2]
  penalty: [0, 0.1]
  optimizer: [adam, muon]
"""


def arms_of(study) -> list[tuple]:
    return [tuple(arm.levels.values()) for arm in arms(study)]


def test_leave_one_out_is_the_full_recipe_and_it_minus_one_component(load):
    study = load(COMPONENTS + RATES, "leave_one_out")
    assert study.baseline() == {"layers": "sparse 2", "penalty": 0.1, "optimizer": "muon"}
    assert arms_of(study) == [
        ("none", 0.1, "muon"),
        ("sparse 2", 0.0, "muon"),
        ("sparse 2", 0.1, "adam"),
        ("sparse 2", 0.1, "muon"),
    ]
    assert [len(arm.tuned) for arm in arms(study)] == [2, 2, 2, 2]
    assert "full recipe (sparse 2, penalty 0.1, muon)" in designed(study)


def test_the_recipe_may_state_which_level_is_the_full_recipes(load):
    shared = SHARED.replace("batch: 100", "batch: 100, optimizer: adam")
    study = load(COMPONENTS.replace("[adam, muon]", "[adam, lion]"), "leave_one_out", shared)
    assert study.baseline()["optimizer"] == "adam"
    assert ("sparse 2", 0.1, "lion") in arms_of(study)


def test_without_its_parent_a_component_is_gone_too(load):
    axes = "  layers: [none, dense 2-2]\n  penalty: {when: {layers: {dense 2-2: [0, 0.1]}}}\n"
    study = load(axes, "leave_one_out")
    assert arms_of(study) == [("none", 0.0), ("dense 2-2", 0.0), ("dense 2-2", 0.1)]


def test_a_component_stays_where_its_full_level_depends_on_another_axis(load):
    axes = "  layers: [none, sparse 2]\n  penalty: {when: {layers: {none: [0, 0.2], sparse 2: [0, 0.1]}}}\n"
    assert arms_of(load(axes, "leave_one_out")) == [("none", 0.2), ("sparse 2", 0.0), ("sparse 2", 0.1)]


AXES = """  layers: [none, dense 2-2, sparse 2]
  penalty: [0, 0.1, 0.3]
  optimizer: [adam, muon, lion]
  decay: [0.1, 0.2, 0.3]
  warmup: [0, 0.05]
"""


def test_a_fraction_has_levels_and_pairs_of_levels_equally_often(load):
    study = load(AXES + RATES, "{fraction: 1/9}")  # an orthogonal array of 18 arms exists
    rows = arms_of(study)
    assert len(rows) == len(set(rows)) == 18
    for one, other in combinations(range(5), 2):
        counts = Counter((row[one], row[other]) for row in rows)
        assert len(set(counts.values())) == 1
    assert tuple(study.baseline().values()) in rows
    assert "18 of 162 arms; levels and pairs of levels are in the same proportions as in all arms" in designed(
        study
    )
    assert size(study) == len(possible_cells(study, "source")) == 18 * 2 * 2  # all rates and seeds of each


def test_a_fraction_is_the_same_whenever_it_is_made(load):
    first = settings(load(AXES, "{fraction: 20}"))
    balanced.cache_clear()
    assert settings(load(AXES, "{fraction: 20}")) == first


LEVELS = st.lists(st.integers(2, 4), min_size=2, max_size=4)


def test_rounding_makes_no_fraction_that_cannot_estimate_its_main_effects(monkeypatch):
    """Of seven arms of a square, the most balanced have rank six; rounding differs from run to run."""
    orthonormal = fraction._orthonormal
    noise = np.random.default_rng(0).normal(scale=1e-14, size=(16, 7))
    monkeypatch.setattr(fraction, "_orthonormal", lambda points: orthonormal(points) + noise)
    balanced.cache_clear()
    points = tuple(np.ndindex(4, 4))
    for kept in range(len(points)):
        part = balanced(points, 7, kept)
        model = [[*np.eye(4)[points[place][0]], *np.eye(4)[points[place][1]]] for place in part.chosen]
        assert np.linalg.matrix_rank(np.array(model)) == 7
    balanced.cache_clear()


@given(LEVELS, st.data())
@hypothesis_settings(max_examples=25)
def test_every_fraction_is_as_balanced_as_can_be_expected_and_estimates_main_effects(shape, data):
    points = tuple(np.ndindex(*shape))
    least = main_effects(points)
    assert least == 1 + sum(shape) - len(shape)
    wanted = data.draw(st.integers(least, len(points)))
    kept = data.draw(st.integers(0, len(points) - 1))
    part = balanced(points, wanted, kept)
    assert kept in part.chosen
    assert len(set(part.chosen)) == wanted
    chosen = [points[place] for place in part.chosen]
    model = np.array(
        [
            [1, *(p == level for p, n in zip(point, shape, strict=True) for level in range(1, n))]
            for point in chosen
        ]
    )
    assert np.linalg.matrix_rank(model.astype(float)) == least
    assert part.levels_off < 2
    assert 0 < part.efficiency < 1 + 1e-9


def test_a_fraction_keeps_to_conditions(load):
    axes = """  layers: [none, dense 2-2, sparse 2]
  penalty: {when: {layers: {dense 2-2: [0, 0.1, 0.3]}}}
  optimizer: [adam, muon, lion]
  warmup: [0.1, 0.3]
"""
    every = arms_of(load(axes, "factorial"))
    rows = arms_of(load(axes, "{fraction: 1/2}"))
    assert set(rows) <= set(every)
    assert len(rows) == 15
    assert {row[1] for row in rows if row[0] == "dense 2-2"} == {0, 0.1, 0.3}
    assert Counter(row[2] for row in rows) == {"adam": 5, "muon": 5, "lion": 5}


RANGES = """  layers: [none, sparse 2]
  penalty: {low: 1e-3, high: 1, log: true}
  dead_window: {low: 100, high: 500}
  optimizer: [adam, muon]
  warmup: {when: {optimizer: {adam: {low: 0, high: 0.5}, muon: [0.1, 0.2]}}}
"""


@pytest.mark.parametrize("sampler", ["qmc", "random"])
def test_a_sample_has_so_many_arms_within_its_ranges(load, sampler):
    study = load(RANGES + RATES, f"{{sampled: 32, sampler: {sampler}, seed: 3}}")
    found = [arm.levels for arm in arms(study)]
    assert len(found) == 32
    assert all(0.001 <= arm["penalty"] <= 1 for arm in found)
    assert all(isinstance(arm["dead_window"], int) and 100 <= arm["dead_window"] <= 500 for arm in found)
    assert {arm["warmup"] for arm in found if arm["optimizer"] == "muon"} == {0.1, 0.2}
    assert len({arm["warmup"] for arm in found if arm["optimizer"] == "adam"}) > 5
    assert levels(study)["penalty"] == sorted(arm["penalty"] for arm in found)
    assert len(recipes(study)) == 64
    assert study.base.penalty == found[0]["penalty"]
    assert "32 arms" in designed(study)
    assert "penalty 0.001 to 1 (log)" in designed(study)


def test_a_quasi_random_sample_fills_its_ranges_evenly(load):
    study = load(RANGES, "{sampled: 32}")
    decades = np.log10([arm.levels["penalty"] for arm in arms(study)])
    assert sorted(np.histogram(decades, bins=8, range=(-3, 0))[0]) == [4] * 8
    assert Counter(arm.levels["optimizer"] for arm in arms(study)) == {"adam": 16, "muon": 16}


def test_a_sample_is_the_same_each_time_goes_on_for_more_arms_and_depends_on_its_seed(load):
    first = settings(load(RANGES, "{sampled: 8}"))
    assert settings(load(RANGES, "{sampled: 8}")) == first
    assert settings(load(RANGES, "{sampled: 8, seed: 1}")) != first
    assert settings(load(RANGES, "{sampled: 9}"))[:8] == first


MISTAKES = {
    "three levels": (AXES, "leave_one_out", ":5: axes.layers: expected two levels with leave_one_out: without"),
    "too few arms": (
        AXES,
        "{fraction: 8}",
        ":11: design.fraction: expected at least 10 arms, since the axes have 9",
    ),
    "too many arms": (AXES, "{fraction: 163}", ":11: design.fraction: expected at most 162 arms, which are all"),
    "no part": (
        AXES,
        "{fraction: 3/2}",
        ":11: design.fraction: expected a share such as 1/2, or a number of arms",
    ),
    "one arm": (AXES, "{fraction: 1}", ":11: design.fraction: expected a share such as 1/2"),
    "another key": (AXES, "{fraction: 1/2, seed: 1}", ":11: design.seed: unknown key"),
    "a range in a factorial": (RANGES, "factorial", ":6: axes.penalty: expected values, since ranges are for"),
    "a range that is tuned": (
        "  lr: {tune: true, low: 1e-3, high: 1e-2}\n",
        "{sampled: 4}",
        ":5: axes.lr: expected values, since a tuned axis is searched at each of them, got a range",
    ),
    "one end": ("  lr: {low: 1e-3}\n", "{sampled: 4}", ":5: axes.lr.high: this key is missing"),
    "ends in the wrong order": (
        "  lr: {low: 1e-2, high: 1e-3}\n",
        "{sampled: 4}",
        ":5: axes.lr.high: expected more than low (0.01), got 0.001",
    ),
    "no logarithm": (
        "  penalty: {low: 0, high: 1, log: true}\n",
        "{sampled: 4}",
        ":5: axes.penalty.low: expected more than 0, since log is true, got 0",
    ),
    "text": ("  layers: {low: none, high: sparse 2}\n", "{sampled: 4}", ":5: axes.layers.low: expected a number"),
    "a share of warm-up above 1": (
        "  warmup: {low: 0, high: 2}\n",
        "{sampled: 4}",
        ":5: axes.warmup.high: expected at most 1, got 2",
    ),
    "more arms than there are": (
        "  layers: [none, sparse 2]\n  optimizer: [adam, muon]\n",
        "{sampled: 5}",
        ":8: design.sampled: expected at most 4: no other arms were drawn",
    ),
    "values and a range": (
        "  lr: {values: [1e-3], high: 1e-3}\n",
        "{sampled: 4}",
        ":5: axes.lr: expected one of 'values', 'when' and 'settings', or 'low' and 'high'",
    ),
    "a condition on a tuned axis": (
        RATES + "  warmup: {when: {lr: {1e-3: [0, 0.1]}}}\n",
        "{fraction: 1/2}",
        ":6: axes.warmup.when.lr: expected a condition on an axis that is not tuned, since fraction is of arms",
    ),
    "an unknown sampler": (
        RANGES,
        "{sampled: 4, sampler: tpe}",
        ":11: design.sampler: expected 'qmc' or 'random'",
    ),
    "no such design": (AXES, "{half: 1}", ":11: design: expected 'factorial', 'one_factor', 'leave_one_out',"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line(load, mistake):
    axes, design, expected = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        recipes(load(axes, design))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
