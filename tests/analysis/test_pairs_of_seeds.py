"""Metrics of pairs of seeds in the tables: intervals that know that the pairs of one seed vary together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.analysis.results.files import read_table
from harness.analysis.tables import make_tables
from tests.analysis.synthetic_results import cell_record, study_record, write

FIGURES = {"none": (0.5, 0.52, 0.54), "dense 2-2": (0.3, 0.32, 0.34)}


def results(folder: Path, seeds: int) -> Path:
    """Two arms, 20 points apart in latents found again."""
    cells = [
        cell_record({"layers": name}, seed, 0.1, features={"found_again": figures[seed]})
        for seed in range(seeds)
        for name, figures in FIGURES.items()
    ]
    study = study_record(folder.name, {"layers": [*FIGURES]}, list(range(seeds)), cells=len(cells))
    make_tables(write(folder, study, cells, []))
    return folder


def pair(folder: Path) -> dict[str, Any]:
    (row,) = [row for row in read_table(folder, "effects").to_dicts() if row["kind"] == "pair"]
    return row


def test_the_interval_is_that_of_pseudo_values(tmp_path: Path):
    """At three seeds these are four times as far apart: s = 8 points, t(4) = 2.776445."""
    found = pair(results(tmp_path / "s", 3))
    assert found["found_again_points"] == pytest.approx(-20)
    assert found["found_again_points_high"] == pytest.approx(-20 + 2.776445 * 8 * (2 / 3) ** 0.5, rel=1e-5)
    arms = read_table(tmp_path / "s", "arms").to_dicts()
    assert arms[0]["found_again"] == pytest.approx(0.52)
    assert arms[0]["found_again_high"] - 0.52 > 2.776445 * 0.08 / 3**0.5


def test_one_pair_has_no_interval(tmp_path: Path):
    """Both seeds of two have the same figure, which is no proof that it does not vary."""
    found = pair(results(tmp_path / "s", 2))
    assert found["found_again_points"] == pytest.approx(-20)
    assert found["found_again_points_high"] is None
    arms = read_table(tmp_path / "s", "arms").to_dicts()
    assert (arms[0]["found_again"], arms[0]["found_again_low"]) == (pytest.approx(0.51), None)


def test_a_seed_alone_has_no_variance(tmp_path: Path):
    outcomes = {row["outcome"] for row in read_table(results(tmp_path / "s", 3), "variance").to_dicts()}
    assert "fvu" in outcomes
    assert "found_again" not in outcomes
