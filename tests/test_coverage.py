"""Intervals and verdicts are right as often as they say, in a few of the studies of `make coverage`.

Seeds are fixed, and limits are three Monte Carlo errors wider than those of docs/statistics.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.coverage.__main__ import BEGIN, END, line, replaced
from benchmarks.coverage.design import Scenario
from benchmarks.coverage.reported import same_in_report
from benchmarks.coverage.scenarios import scenarios
from benchmarks.coverage.table import markdown

STUDIES = 120
SHORT = {
    ("five equal arms", 3),
    ("equal arms, spreads 0.5 to 2.1 sd", 5),
    ("cross-fitted, three settings equal", 3),
    ("cross-fitted, three settings of equal FVU, 4 to 23 % dead", 5),
    ("looks at 3, 5, 8; equal arms", 8),
    ("five equal arms, 0.1 % dead", 3),
}
CHOSEN = [scenario for scenario in scenarios() if (scenario.name, scenario.seeds) in SHORT]


def test_no_two_studies_have_the_same_row():
    rows = [(scenario.name, scenario.seeds, scenario.outcome) for scenario in scenarios()]
    assert len(set(rows)) == len(rows)
    assert len(CHOSEN) == len(SHORT)


@pytest.mark.parametrize("scenario", CHOSEN, ids=lambda scenario: f"{scenario.name}, n = {scenario.seeds}")
def test_intervals_cover_and_verdicts_are_true(scenario: Scenario):
    row = line(scenario, range(STUDIES))
    assert row.arms.percent > 91
    assert row.effects.percent > 91
    assert row.false.percent < 12


@pytest.mark.parametrize(
    "name", ["looks at 3, 5, 8; two of five equal", "3 tuning seeds, two settings 5 sd worse"]
)
def test_the_report_of_a_folder_says_the_same(name: str, tmp_path: Path):
    scenario = next(scenario for scenario in scenarios() if scenario.name == name)
    assert same_in_report(scenario, np.random.default_rng(1), tmp_path)


def test_the_table_goes_between_its_markers_and_says_what_is_not_kept():
    scenario = next(scenario for scenario in scenarios() if scenario.name.startswith("1 tuning seed"))
    row = line(scenario, range(3))
    page = replaced(f"before\n{BEGIN}\nold\n{END}\nafter\n", markdown([row]))
    assert "old" not in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert f"| {scenario.name} | FVU | 3 | " in page
