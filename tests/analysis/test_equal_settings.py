"""Effects at equal tuned values: which rows there are, on which seeds, and what a reader is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.analysis.comparability.sentences import sentences
from harness.analysis.results.files import read_table
from harness.analysis.sentences.warnings import warnings
from harness.analysis.tables import make_tables
from harness.analysis.views.view import View, load_view
from tests.analysis.synthetic_results import cell_record, study_record, write

RATES = [0.008, 0.016, 0.032]
AXES = {"layers": ["none", "dense 2-2"], "lr": RATES}
# by rate: (FVU, dead); as in the issue, dense layers have more dead latents at a low rate and fewer at a high one
NONE = {0.008: (0.107, 0.07), 0.016: (0.105, 0.32), 0.032: (0.108, 0.62)}
DENSE = {0.008: (0.109, 0.32), 0.016: (0.103, 0.38), 0.032: (0.101, 0.44)}
NOISE = (-0.01, 0.0, 0.01)

Figures = dict[float, tuple[float, float]]


def cells_of(layers: str, figures: Figures, seeds: list[int]) -> list[dict[str, Any]]:
    return [
        cell_record({"layers": layers}, seed, fvu * (1 + 0.1 * noise), {"lr": lr}, dead=dead + noise)
        for lr, (fvu, dead) in figures.items()
        for seed, noise in zip(seeds, NOISE, strict=False)
    ]


def tabulate(folder: Path, cells: list[dict[str, Any]], **study: Any) -> Path:
    write(folder, study_record("s", AXES, [0, 1, 2], cells=len(cells), **study), cells, [])
    make_tables(folder)
    return folder


def equal_rows(results: Path) -> list[dict[str, Any]]:
    return [row for row in read_table(results, "effects").to_dicts() if row["kind"] == "equal"]


@pytest.fixture(scope="module")
def crossfitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = cells_of("none", NONE, [0, 1, 2]) + cells_of("dense 2-2", DENSE, [0, 1, 2])
    return tabulate(tmp_path_factory.mktemp("results") / "s", cells)


def test_each_setting_that_both_arms_have_is_a_row(crossfitted: Path):
    rows = equal_rows(crossfitted)
    assert [row["axis_lr"] for row in rows] == RATES
    assert [(row["level"], row["reference"], row["n"], row["seeds"]) for row in rows] == [
        ("dense 2-2", "none", 3, "reported")
    ] * 3
    assert [row["dead_points"] for row in rows] == pytest.approx([25, 6, -18], abs=0.5)
    assert [row["dead_verdict"] for row in rows] == ["higher", "higher", "lower"]
    best = next(row for row in read_table(crossfitted, "effects").to_dicts() if row["kind"] == "pair")
    assert best["axis_lr"] is None
    assert best["dead_points"] == pytest.approx(12, abs=0.5)  # 0.032 against 0.016


def view_of(results: Path) -> View:
    return load_view(results)


def test_a_verdict_that_hangs_on_the_tuned_value_is_a_sentence_on_its_row(crossfitted: Path):
    view = view_of(crossfitted)
    told = [sentence for sentence in sentences(view) if sentence.table == "effects"]
    dead = next(sentence for sentence in told if "dead latents" in sentence.text)
    assert dead.text.startswith("dense 2-2 instead of none at equal lr: dead latents +25.0 points [")
    assert dead.text.endswith("] at lr 0.032: its sign depends on lr.")
    assert dead.row is not None
    assert view.tables["effects"][dead.row - 1]["axis_lr"] == 0.008


def test_arms_that_stand_at_different_values_are_warned_of(crossfitted: Path):
    told = [line for line in warnings(view_of(crossfitted)) if "stand" in line]
    assert told == [
        "1 of 1 pair of compared arms stand at different lr, so their comparison is of lr, too: within one arm it "
        "moves dead latents by up to 55.0 points (none) and FVU by up to 7.9 % (dense 2-2). Effects at equal lr: "
        "rows of kind `equal` in the effects table.",
        "“dense 2-2” stands at lr 0.032, “none”, which it is compared with, at lr 0.016. From lr 0.016 to lr "
        "0.032, within “dense 2-2” dead latents go from 38.0 % to 44.0 % (FVU −1.9 %) and within “none” dead "
        "latents go from 32.0 % to 62.0 % (FVU +2.9 %).",
    ]


def test_with_tuning_seeds_they_are_of_these_but_where_both_arms_were_trained_on(tmp_path: Path):
    none = {**NONE, 0.032: (0.104, 0.62)}  # best at 0.032, as dense layers are
    cells = cells_of("none", none, [10, 11]) + cells_of("dense 2-2", DENSE, [10, 11])
    for layers, figures in (("none", none), ("dense 2-2", DENSE)):
        cells += cells_of(layers, {0.032: figures[0.032]}, [0, 1, 2])
    rows = equal_rows(tabulate(tmp_path / "s", cells, tuning_seeds=[10, 11]))
    assert [(row["axis_lr"], row["seeds"], row["n"]) for row in rows] == [
        (0.008, "tuning", 2),
        (0.016, "tuning", 2),
        (0.032, "reported", 3),
    ]


def test_one_tuning_seed_gives_effects_without_intervals_and_says_so(tmp_path: Path):
    cells = cells_of("none", NONE, [10]) + cells_of("dense 2-2", DENSE, [10])
    cells += cells_of("none", {0.016: NONE[0.016]}, [0, 1, 2])
    cells += cells_of("dense 2-2", {0.032: DENSE[0.032]}, [0, 1, 2])
    results = tabulate(tmp_path / "s", cells, tuning_seeds=[10])
    rows = equal_rows(results)
    assert [(row["seeds"], row["n"], row["dead_verdict"]) for row in rows] == [("tuning", 1, "no interval")] * 3
    (line,) = [line for line in warnings(view_of(results)) if line.startswith("One tuning seed")]
    assert line.endswith("rest on it alone and have no intervals.")


def test_arms_without_a_common_setting_have_no_row_and_the_warning_says_why(tmp_path: Path):
    dense = {0.016: DENSE[0.016], 0.032: DENSE[0.032]}
    cells = cells_of("none", {0.008: NONE[0.008]}, [0, 1, 2]) + cells_of("dense 2-2", dense, [0, 1, 2])
    results = tabulate(tmp_path / "s", cells)
    assert equal_rows(results) == []
    assert any("“none” has no result at lr 0.032" in line for line in warnings(view_of(results)))


def test_nothing_tuned_nothing_to_equal(tmp_path: Path):
    cells = [cell_record({"layers": layers}, seed, 0.1) for layers in AXES["layers"] for seed in range(3)]
    axes = {"layers": AXES["layers"]}
    write(tmp_path / "s", study_record("s", axes, [0, 1, 2], cells=len(cells)), cells, [])
    make_tables(tmp_path / "s")
    assert equal_rows(tmp_path / "s") == []
    assert "axis_lr" not in read_table(tmp_path / "s", "effects").columns
