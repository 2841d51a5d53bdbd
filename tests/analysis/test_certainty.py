"""What the report says of how certain it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.analysis.results.files import read_table
from harness.analysis.sentences.certainty import luck, open_choices, settling
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import cell_record, study_record, write, write_grid

NAMES = ["none", *"abcdefgh"]


def test_the_lowest_of_nine_equal_arms_is_called_optimistic(tmp_path: Path):
    results = write_grid(tmp_path / "s", {"layers": NAMES}, 3, lambda levels, seed: 0.1 * (1 + 0.02 * (seed - 1)))
    make_tables(results)
    arms = read_table(results, "arms")
    # one seed varies by 2 %, the mean of three by 1.155 %; the lowest of nine is 1.485 of these below
    assert arms["fvu_standard_error"].to_list() == pytest.approx([0.1 * 0.02 / 3**0.5] * 9, rel=1e-3)
    (said,) = luck(load_view(results))
    assert (said.table, said.row) == ("arms", 1)
    assert "The lowest FVU of 9 arms is an optimistic figure" in said.text
    assert "by chance alone be 1.7 % below their common value" in said.text


def test_how_optimistic_does_not_depend_on_how_far_arms_lie_apart(tmp_path: Path):
    """Eight arms with ten times the FVU of the best one vary by as much of their own FVU."""

    def fvu(levels: dict[str, str], seed: int) -> float:
        return (0.01 if levels["layers"] == "none" else 0.1) * (1 + 0.02 * (seed - 1))

    results = write_grid(tmp_path / "s", {"layers": NAMES}, 3, fvu)
    make_tables(results)
    (said,) = luck(load_view(results))
    assert "by chance alone be 1.7 % below their common value" in said.text


def test_two_arms_and_one_seed_have_no_such_sentence(tmp_path: Path):
    for name, names, seeds in (("two", NAMES[:2], 3), ("one", NAMES, 1)):
        make_tables(write_grid(tmp_path / name, {"layers": names}, seeds, lambda levels, seed: 0.1 + seed / 100))
        assert luck(load_view(tmp_path / name)) == []


def test_what_would_settle_the_undecided_and_what_it_costs(tmp_path: Path):
    def fvu(levels: dict[str, str], seed: int) -> float:
        return 0.1 * (1 + 0.02 * (seed - 1)) * {"none": 1.0, "a": 1.02, "b": 1.5}[levels["layers"]]

    results = write_grid(tmp_path / "s", {"layers": ["none", "a", "b"]}, 3, fvu)
    make_tables(results)
    view = load_view(results)
    (needed,) = [
        e["fvu_seeds_needed"] for e in view.tables["effects"] if e["fvu_seeds_needed"] and e["kind"] == "pair"
    ]
    (said,) = [sentence.text for sentence in settling(view) if sentence.text.startswith("FVU")]
    cells = 3 * (needed - 3)
    assert said == (
        f"FVU: 1 of 2 comparisons undecided. {needed} seeds in each arm would settle 1 of them ({cells} more "
        "cells, if all arms get them; trained were 9)."
    )


def test_a_choice_that_is_not_settled_is_warned_of(tmp_path: Path):
    cells = [
        cell_record({}, seed, fvu + 0.001 * seed, {"lr": lr}, dead=dead)
        for lr, fvu, dead in ((0.01, 0.1, 0.05), (0.02, 0.1001, 0.30))
        for seed in range(3)
    ]
    write(tmp_path / "s", study_record("s", {"lr": [0.01, 0.02]}, [0, 1, 2], cells=6), cells, [])
    make_tables(tmp_path / "s")
    (said,) = open_choices(load_view(tmp_path / "s"))
    assert said.startswith("The seeds do not settle which tuned setting is best for 1 arm.")
    assert re.search(r": s \([1-9][0-9.]*\)\.$", said)
