"""Variance components: known ones, coverage of their intervals, and the table's rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.analysis.arms import variance
from harness.analysis.arms.variance import two_way
from harness.analysis.results.files import read_table
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import write_grid


def test_components_of_a_small_table_by_hand():
    # rows differ by 2, columns by 4, and one corner by 4 more: 0 4 / 2 10
    found = two_way(np.array([[0.0, 4.0], [2.0, 10.0]]))
    # mean squares: arms (6 - 2)^2 / 2 * 2 / 2 = 16, seeds (7 - 1)^2 / 2 * 2 / 2 = 36, the rest 4 * 1^2 / 1 = 4
    assert {name: component.estimate for name, component in found.items()} == {
        "arm": pytest.approx((16 - 4) / 2),
        "seed": pytest.approx((36 - 4) / 2),
        "arm by seed": pytest.approx(4),
    }


def test_estimates_are_right_on_average_and_intervals_cover():
    rng = np.random.default_rng(0)
    true = {"arm": 9.0, "seed": 1.0, "arm by seed": 0.25}
    inside = dict.fromkeys(true, 0)
    total = dict.fromkeys(true, 0.0)
    for _ in range(400):
        arm, seed = rng.normal(0, 3, (9, 1)), rng.normal(0, 1, (1, 3))
        for name, component in two_way(arm + seed + rng.normal(0, 0.5, (9, 3))).items():
            inside[name] += component.low <= true[name] <= component.high
            total[name] += component.estimate / 400
    assert all(0.92 <= count / 400 <= 0.98 for count in inside.values()), inside
    assert total == pytest.approx(true, rel=0.15)


def test_the_table_says_what_pairing_by_seed_can_gain(tmp_path: Path):
    def fvu(levels: dict[str, object], seed: int) -> float:
        return 0.1 * (1.5 if levels["layers"] == "b" else 1) * [0.98, 1.0, 1.02][seed]

    results = write_grid(tmp_path / "s", {"layers": ["a", "b"]}, 3, fvu)
    make_tables(results)
    rows = {row["component"]: row for row in read_table(results, "variance").to_dicts() if row["outcome"] == "fvu"}
    assert rows["seed"]["sd"] == pytest.approx(2, abs=0.01)
    assert rows["arm by seed"]["sd"] == pytest.approx(0, abs=1e-9)
    assert (rows["arm"]["arms"], rows["arm"]["seeds"], rows["seed"]["df"]) == (2, 3, 2)
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    (sentence, *_) = variance.sentences(load_view(results))
    assert sentence.table == "variance"
    assert "FVU" in sentence.text
    assert sentence.text.endswith("difference at the same seeds: they are wider than they need be.")


def test_an_arm_that_lacks_a_seed_is_left_out(tmp_path: Path):
    def fvu(levels: dict[str, object], seed: int) -> float | None:
        return None if (levels["layers"], seed) == ("c", 1) else 0.1 + 0.001 * seed

    results = write_grid(tmp_path / "s", {"layers": ["a", "b", "c"]}, 3, fvu)
    make_tables(results)
    assert set(read_table(results, "variance")["arms"]) == {2}
