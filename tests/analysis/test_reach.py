"""Tokens to reach: hand-computed crossings, seeds that never cross, and what the reader is told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.results.files import read_table
from harness.analysis.sentences.findings import findings
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import cell_record, study_record, write

LAYERS = {"layers": ["none", "sparse 3"]}
REFERENCE = [(100, 0.8), (200, 0.4), (400, 0.1)]  # ends at 0.1 after 400 tokens
Points = list[Any]  # (tokens, FVU) at L0 16, or (tokens, FVU, L0)


def reach(folder: Path, arm: list[Points], reference: list[Points]) -> dict[str, Any]:
    """The reach table's only row, from the curves of both arms by seed."""
    cells, curves = [], []
    for name, by_seed in (("none", reference), ("sparse 3", arm)):
        for seed, points in enumerate(by_seed):
            cell = cell_record({"layers": name}, seed, points[-1][1] if points else 0.1)
            cells.append(cell)
            curves += [
                {
                    "cell": cell["cell"],
                    "step": 1,
                    "tokens": at,
                    "train_dead_fraction": 0.0,
                    "heldout_fvu": fvu,
                    "heldout_l0": l0,
                }
                for at, fvu, l0 in (point if len(point) == 3 else (*point, 16.0) for point in points)
            ]
    write(folder, study_record("s", LAYERS, list(range(len(reference))), cells=len(cells)), cells, curves)
    make_tables(folder)
    (row,) = read_table(folder, "reach").to_dicts()
    return row


def finding(folder: Path) -> str:
    """What is found about the only level that is compared."""
    return findings(load_view(folder))["layers"][0].text


def clause(folder: Path) -> str:
    """What it says last."""
    return finding(folder).split("; ")[-1]


def test_crossing_is_linear_in_log_fvu_and_in_tokens(tmp_path: Path):
    # from 1.6 to 0.1 is a factor 16 = 2^4 in 100 tokens; 0.4 is a factor 4 = 2^2 below 1.6: at half of them
    row = reach(tmp_path, [[(100, 1.6), (200, 0.1)]], [REFERENCE])
    assert row["halfway_percent"] == pytest.approx(100 * 150 / 200)
    assert (row["arm"], row["reference_arm"], row["kind"]) == ("sparse 3", "none", "pair")
    assert (row["n"], row["halfway_not_reached"], row["halfway_percent_low"]) == (1, 0, None)
    assert "reaches the reference's FVU at half-time after 75 % of the tokens until then" in finding(tmp_path)


def test_mean_over_seeds_is_geometric_and_has_an_interval(tmp_path: Path):
    # 100, 200 and 400 of 200 tokens: half, once and twice; s = ln 2, half = 4.302653 * ln 2 / sqrt(3) = 1.72188
    arm: list[Points] = [[(50, 1.6), (at, 0.4)] for at in (100, 200, 400)]
    row = reach(tmp_path, arm, [REFERENCE] * 3)
    assert row["halfway_percent"] == pytest.approx(100)
    assert row["halfway_percent_high"] == pytest.approx(100 * math.exp(1.72188), abs=1e-2)
    assert row["halfway_percent_low"] == pytest.approx(100 / math.exp(1.72188), abs=1e-2)
    assert "at half-time after 100 % [18, 559] of the tokens until then" in finding(tmp_path)


def test_two_equal_arms_are_not_said_to_reach_the_end_early(tmp_path: Path):
    # three seeds of each, all of the same law: the mean share of the tokens could not be above 100 %
    arm: list[Points] = [[(100, 0.8), (200, 0.4), (400, end)] for end in (0.09, 0.1, 0.12)]
    row = reach(tmp_path, arm, [[*REFERENCE[:2], (400, end)] for end in (0.12, 0.1, 0.09)])
    assert (row["n"], row["reached"], row["halfway_percent"]) == (3, 2, pytest.approx(100))
    assert not any(name.startswith("reached_percent") for name in row)
    assert clause(tmp_path) == "reaches its final FVU in 2 of 3 seeds."


def test_first_crossing_counts_even_if_the_curve_rises_again(tmp_path: Path):
    row = reach(tmp_path, [[(100, 0.6), (150, 0.4), (300, 0.5), (400, 0.09)]], [REFERENCE])
    assert row["halfway_percent"] == pytest.approx(75)


def test_a_curve_that_starts_below_counts_with_its_first_point(tmp_path: Path):
    assert reach(tmp_path, [[(100, 0.05), (200, 0.04)]], [REFERENCE])["halfway_percent"] == pytest.approx(50)


def test_each_seed_has_its_own_target(tmp_path: Path):
    arm: list[Points] = [[(100, 0.4), (200, 0.1)], [(100, 0.4), (200, 0.1)]]
    row = reach(tmp_path, arm, [[(200, 0.4), (400, 0.3)], [(200, 0.1), (400, 0.05)]])
    assert row["halfway_percent"] == pytest.approx((50 * 100) ** 0.5)


def test_a_seed_that_never_reaches_it_leaves_no_mean(tmp_path: Path):
    row = reach(tmp_path, [[(100, 0.4), (400, 0.05)], [(100, 0.8), (400, 0.5)]], [REFERENCE] * 2)
    assert (row["n"], row["reached"], row["halfway_not_reached"], row["halfway_percent"]) == (2, 1, 1, None)
    assert "the reference's FVU at half-time is not reached by 1 of 2 seeds; " in finding(tmp_path)
    assert clause(tmp_path) == "reaches its final FVU in 1 of 2 seeds."


def test_an_arm_that_is_worse_throughout_does_not_reach_it(tmp_path: Path):
    row = reach(tmp_path, [[(100, 0.8), (400, 0.5)]] * 2, [REFERENCE] * 2)
    assert (row["n"], row["reached"], row["halfway_not_reached"]) == (2, 0, 2)
    assert "the reference's FVU at half-time is not reached; " in finding(tmp_path)
    assert clause(tmp_path) == "reaches its final FVU in 0 of 2 seeds."


def test_seeds_without_a_result_or_a_curve_do_not_count(tmp_path: Path):
    arm: list[Points] = [[(100, 0.4), (200, 0.1)], [(100, 0.4), (200, None)], []]
    row = reach(tmp_path, arm, [REFERENCE] * 3)
    assert (row["n"], row["reached"], row["halfway_percent"]) == (1, 1, pytest.approx(50))


def test_without_curves_nothing_is_said(tmp_path: Path):
    assert reach(tmp_path, [[], []], [[], []])["n"] == 0
    assert "reaches" not in finding(tmp_path)


def test_half_time_is_a_target_of_its_own(tmp_path: Path):
    # at 200 of 400 tokens the reference has 0.4; the arm has that at 100, and never gets to 0.1
    row = reach(tmp_path, [[(100, 0.4), (400, 0.2)]] * 2, [REFERENCE] * 2)
    assert (row["halfway_percent"], row["halfway_not_reached"]) == (pytest.approx(50), 0)
    expected = "reaches the reference's FVU at half-time after 50 % [50, 50] of the tokens until then"
    assert expected in finding(tmp_path)
    assert clause(tmp_path) == "reaches its final FVU in 0 of 2 seeds."


def test_half_time_between_two_points_is_interpolated(tmp_path: Path):
    # the reference falls from 0.8 to 0.2 between 100 and 300: 0.4 at half of its tokens; the arm has that at 150
    arm = [[(100, 0.8), (200, 0.2), (400, 0.1)]]
    row = reach(tmp_path, arm, [[(100, 0.8), (300, 0.2), (400, 0.1)]])
    assert row["halfway_percent"] == pytest.approx(75)


def test_points_with_more_active_latents_do_not_count(tmp_path: Path):
    arm = [[(50, 0.05, 128.0), (100, 0.4, 16.0), (400, 0.1, 16.0)]]  # k decay: a low error, at eight times the k
    assert reach(tmp_path, arm, [REFERENCE])["halfway_percent"] == pytest.approx(50)
