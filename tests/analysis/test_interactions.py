"""Main effects, interactions and contexts: rectangles of conditional grids, known effects, hand-computed tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.analysis.arms.arm import collect_arms
from harness.analysis.arms.measured import Measured
from harness.analysis.effects import contexts, interactions
from harness.analysis.effects.additive_model import AdditiveModel
from harness.analysis.effects.contrasts import change_of
from harness.analysis.effects.rectangles import rectangles
from harness.analysis.results.files import read_cells, read_study, read_table
from harness.analysis.sentences.findings import findings
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from harness.metrics import FVU
from tests.analysis.synthetic_results import cell_record, study_record, write, write_depth

Arm = dict[str, Any]
NOISE = (-1.0, 0.2, 0.8)  # of three seeds: mean 0, variance 0.84


def rows_of(results: Path, table: str = "interactions", **values: Any) -> list[dict[str, Any]]:
    rows = read_table(results, table).to_dicts()
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def grid(
    folder: Path,
    axes: dict[str, list[Any]],
    arms: list[Arm],
    log_fvu: Callable[[Arm], float],
    dead: Callable[[Arm], float] = lambda arm: 0.1,
    **changes: Any,
) -> Path:
    """A study of these arms, each with the same three seeds' noise of 1 % about its FVU, through the tables."""
    cells = []
    for number, arm in enumerate(arms):
        for seed in range(3):
            noise = NOISE[(seed + number) % 3]  # independent of the seed: not paired
            fvu = math.exp(log_fvu(arm) + 0.01 * noise)
            cells.append(cell_record(arm, seed, fvu, dead=dead(arm) * (1 + 0.05 * noise)))
    write(folder, study_record("s", axes, [0, 1, 2], cells=len(cells), **changes), cells, [])
    make_tables(folder)
    return folder


AXES: dict[str, list[Any]] = {"layers": ["none", "a", "b"], "penalty": [0, 0.1, 0.2]}
FULL = [{"layers": layers, "penalty": penalty} for layers, penalty in product(*AXES.values())]


def test_a_conditional_grid_has_its_complete_rectangles_and_no_others(tmp_path: Path):
    results = write_depth(tmp_path / "depth")
    study = read_study(results)
    found = list(rectangles(study, collect_arms(study, read_cells(results, study))))
    # Muon has one penalty for each layers, and the penalty is there for dense layers alone
    assert [(r.axes, r.rows, r.columns, r.holding) for r in found] == [
        (("layers", "penalty"), ("dense 2-2", "dense 2-4-4-2", "dense_encoder 2"), (0, 0.1), "adam"),
        (("layers", "optimizer"), ("none", "sparse 3"), ("adam", "muon"), "penalty 0"),
    ]


def test_a_grid_with_a_corner_missing_has_two_overlapping_rectangles(tmp_path: Path):
    arms = [arm for arm in FULL if arm != {"layers": "b", "penalty": 0.2}]
    results = grid(tmp_path / "s", AXES, arms, lambda arm: -2.0)
    tests = rows_of(results, kind="all interactions")
    assert {row["rectangle"] for row in tests} == {"none, a × 0, 0.1, 0.2", "none, a, b × 0, 0.1"}


def test_the_same_rectangle_at_several_settings_of_the_other_axes_is_one(tmp_path: Path):
    cube = {"u": [0, 1], "v": [0, 1], "w": ["x", "y", "z"]}
    arms = [dict(zip(cube, levels, strict=True)) for levels in product(*cube.values())]
    # u and v interact by 10 % at x, 20 % at y and 30 % at z: 20 % in the mean of logarithms, nearly
    more = {"x": math.log(1.1), "y": math.log(1.2), "z": math.log(1.3)}
    results = grid(tmp_path / "s", cube, arms, lambda arm: -2 + more[arm["w"]] * arm["u"] * arm["v"])
    (row,) = rows_of(results, kind="interaction", axis="u", other="v")
    assert (row["holding"], row["arms"]) == ("mean over 3 settings of w", 12)
    assert row["fvu_percent"] == pytest.approx(100 * ((1.1 * 1.2 * 1.3) ** (1 / 3) - 1))
    assert len(rows_of(results, kind="all interactions")) == 3


def test_an_arm_without_a_result_is_a_hole_in_the_grid(tmp_path: Path):
    arms = [arm for arm in FULL if arm["penalty"] != 0.2]
    cells = [cell_record(arm, s, None if arm == arms[-1] else 0.1 + 0.001 * s) for arm in arms for s in range(3)]
    write(tmp_path, study_record("s", AXES, [0, 1, 2], cells=len(cells)), cells, [])
    make_tables(tmp_path)
    (test,) = rows_of(tmp_path, kind="all interactions")
    assert test["rectangle"] == "none, a × 0, 0.1"


def test_effects_that_add_up_have_no_interaction_and_their_own_main_effects(tmp_path: Path):
    gain = {"none": 0.0, "a": math.log(0.8), "b": math.log(1.1)}
    results = grid(tmp_path / "s", AXES, FULL, lambda arm: -2 + gain[arm["layers"]] + arm["penalty"])
    (test,) = rows_of(results, kind="all interactions")
    assert test["fvu_f"] == pytest.approx(0, abs=1e-6)
    assert (test["fvu_df"], test["fvu_p"]) == (4, pytest.approx(1))
    assert 15 < test["fvu_df_seeds"] <= 18
    (main,) = rows_of(results, kind="main effect", level="a")
    assert main["fvu_percent"] == pytest.approx(-20)
    assert main["fvu_percent_low"] < -20 < main["fvu_percent_high"] < -19
    (marginal,) = rows_of(results, "effects", kind="marginal", level="a")
    assert marginal["fvu_contexts_differ"] is False


def test_the_f_test_is_that_of_a_two_way_analysis_of_variance(tmp_path: Path):
    def log_fvu(arm: Arm) -> float:
        return -2 + 0.02 * (arm["layers"] == "b") * (arm["penalty"] == 0.2)

    results = grid(tmp_path / "s", AXES, FULL, log_fvu)
    cells = read_table(results, "cells").sort("axis_layers", "axis_penalty", "seed")
    table = np.log(cells["fvu"].to_numpy()).reshape(3, 3, 3)  # [layers, penalty, seed]
    means = table.mean(axis=2)
    rest = means - means.mean(axis=0) - means.mean(axis=1, keepdims=True) + means.mean()
    f = (3 * (rest**2).sum() / 4) / table.var(axis=2, ddof=1).mean()
    (row,) = rows_of(results, kind="all interactions")
    assert row["fvu_f"] == pytest.approx(f)
    assert row["fvu_p"] == pytest.approx(stats.f.sf(f, 4, row["fvu_df_seeds"]))
    assert row["fvu_df_seeds"] == pytest.approx(
        18, abs=1.5
    )  # 9 arms of 3 seeds; variances are moderated, not pooled


def opposite(arm: Arm) -> float:
    """The penalty halves dead latents of `a`, and hardly changes those of `b`."""
    return 0.4 * (1 - 5 * arm["penalty"] * (arm["layers"] == "a"))


def test_where_contexts_differ_they_are_shown_and_not_their_mean(tmp_path: Path):
    axes: dict[str, list[Any]] = {"layers": ["a", "b"], "penalty": [0, 0.1]}
    arms = [{"layers": layers, "penalty": penalty} for layers, penalty in product(*axes.values())]
    results = grid(tmp_path / "s", axes, arms, lambda arm: -2, opposite)
    (marginal,) = rows_of(results, "effects", kind="marginal", axis="penalty")
    assert marginal["dead_contexts_differ"] is True
    assert (marginal["dead_contexts_low"], marginal["dead_contexts_high"]) == pytest.approx((-20, 0))
    assert marginal["fvu_contexts_differ"] is False
    assert all(row["dead_contexts_differ"] is None for row in rows_of(results, "effects", kind="pair"))
    view = load_view(results)
    of_layers, of_penalty = contexts.sentences(view)
    assert of_layers.text.startswith("b instead of a changes dead latents by different amounts, F(1, 8) = ")
    assert "−20.0 points" in of_penalty.text.split(" (a)")[0]
    assert view.tables["effects"][of_penalty.row - 1] == marginal
    assert of_penalty.anchor == f"effects-{of_penalty.row}"
    finding = next(finding for finding in findings(view)["penalty"])
    assert "dead latents from −20.0 to +0.0 points, depending on the other axes (F(1, " in finding.text
    (sentence,) = interactions.sentences(view)
    assert "FVU: no interaction shown, F(1, 8) = 0" in sentence.text
    assert "dead latents: what one changes depends on the other" in sentence.text
    assert view.tables["interactions"][sentence.row - 1]["kind"] == "all interactions"


def test_intervals_of_interactions_of_fractions_are_as_lopsided_as_those_of_the_means(tmp_path: Path):
    axes: dict[str, list[Any]] = {"layers": ["a", "b"], "penalty": [0, 0.1]}
    arms = [{"layers": layers, "penalty": penalty} for layers, penalty in product(*axes.values())]
    results = grid(tmp_path / "s", axes, arms, lambda arm: -2, lambda arm: 0.001 if arm["penalty"] else 0.2)
    (main,) = rows_of(results, kind="main effect", axis="penalty")
    assert main["dead_points"] == pytest.approx(-19.9)
    below, above = -19.9 - main["dead_points_low"], main["dead_points_high"] + 19.9
    assert 0.3 < below < 1.5
    assert 0.3 < above < 1.5


def test_p_values_are_adjusted_within_an_outcome(tmp_path: Path):
    results = write_depth(tmp_path / "depth", seeds=4)
    make_tables(results)
    tests = sorted(rows_of(results, kind="all interactions"), key=lambda row: row["fvu_p"])
    assert [row["fvu_p_holm"] for row in tests] == pytest.approx(
        [min(1, 2 * tests[0]["fvu_p"]), max(min(1, 2 * tests[0]["fvu_p"]), tests[1]["fvu_p"])]
    )


def test_one_seed_has_estimates_without_intervals_and_no_tests(tmp_path: Path):
    cells = [cell_record(arm, 0, 0.1) for arm in FULL]
    write(tmp_path, study_record("s", AXES, [0], cells=len(cells)), cells, [])
    make_tables(tmp_path)
    assert {row["fvu_percent_low"] for row in rows_of(tmp_path)} == {None}
    assert [row["fvu_percent"] for row in rows_of(tmp_path, kind="interaction")] == pytest.approx([0] * 4)
    assert "too few seeds" in interactions.sentences(load_view(tmp_path))[0].text
    assert read_table(tmp_path, "variance").is_empty()


FACTORS: dict[str, list[Any]] = {name: [0, 1] for name in ("u", "v", "w")}
FRACTION = [
    arm for arm in (dict(zip(FACTORS, r, strict=True)) for r in product([0, 1], repeat=3)) if sum(arm.values()) % 2
]


def test_a_fraction_tells_main_effects_though_no_two_arms_differ_in_one_axis(tmp_path: Path):
    gain = {"u": math.log(0.8), "v": math.log(1.25), "w": 0.0}
    results = grid(
        tmp_path / "s", FACTORS, FRACTION, lambda arm: sum(gain[a] * arm[a] for a in arm), design="fraction"
    )
    study = read_study(results)
    arms = collect_arms(study, read_cells(results, study))
    measured, model = Measured.of(study, arms, FVU), AdditiveModel(study, arms)
    assert model.terms == [("u", 1), ("v", 1), ("w", 1)]
    assert model.residuals() == []  # four arms for an intercept and three effects
    changes = [change_of(measured, weights) for term in model.terms if (weights := model.effect(term))]
    assert [change.mean for change in changes if change] == pytest.approx([-20, 25, 0])
    assert not rows_of(results)


def test_an_effect_that_the_arms_do_not_tell_is_none(tmp_path: Path):
    arms = [{"u": level, "v": level, "w": 0} for level in (0, 1)] + [{"u": 0, "v": 0, "w": 1}]
    results = grid(tmp_path / "s", FACTORS, arms, lambda arm: -2, design="fraction")
    study = read_study(results)
    model = AdditiveModel(study, collect_arms(study, read_cells(results, study)))
    assert model.effect(("u", 1)) is None  # u and v change together
    assert model.effect(("w", 1)) is not None


def test_an_additive_model_is_tested_where_arms_are_left_for_it(tmp_path: Path):
    arms = [dict(zip(FACTORS, levels, strict=True)) for levels in product([0, 1], repeat=3)][:-1]
    results = grid(tmp_path / "s", FACTORS, arms, lambda arm: -2 + 0.3 * arm["u"] * arm["v"], design="fraction")
    (test,) = rows_of(results, kind="lack of fit")
    assert test["fvu_df"] == 3  # seven arms, an intercept and three effects
    assert test["fvu_p"] < 0.001 < test["dead_p"]
    assert interactions.sentences(load_view(results))[0].text.startswith(
        "The additive model: FVU: does not fit, F(3,"
    )
