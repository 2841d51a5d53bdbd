"""Lower, higher, equal within a margin, undecided: what each needs, and faults that once gave a wrong one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from harness.analysis.page.shown_tables import shown_table
from harness.analysis.results.files import read_curves, read_table
from harness.analysis.results.records import CellRecord, StudyRecord
from harness.analysis.sentences.findings import findings
from harness.analysis.tables import make_tables, tables_of
from harness.analysis.views.view import load_view
from harness.inference.looks import level
from tests.analysis.synthetic_results import cell_record, study_record, write

Arms = dict[str, list[tuple[float | None, float]]]  # FVU and share of dead latents of each seed


def tabulated(folder: Path, arms: Arms, **study: Any) -> list[dict[str, Any]]:
    """The effects table's pairs; the first arm is the reference."""
    cells = [
        cell_record({"layers": name}, seed, fvu, dead=dead)
        for name, seeds in arms.items()
        for seed, (fvu, dead) in enumerate(seeds)
    ]
    seeds = list(range(max(map(len, arms.values()))))
    record = study_record(folder.name, {"layers": [*arms]}, seeds, cells=len(cells), **study)
    write(folder, record, cells, [])
    make_tables(folder)
    return read_table(folder, "effects").filter(pl.col("kind") == "pair").to_dicts()


def fvu(*values: float | None) -> list[tuple[float | None, float]]:
    return [(value, 0.0) for value in values]


def test_a_difference_of_the_last_bit_is_none(tmp_path: Path):
    values = [0.1, 0.11, 0.12]
    (pair,) = tabulated(tmp_path / "s", {"none": fvu(*values), "a": fvu(*(np.nextafter(v, 1) for v in values))})
    assert pair["fvu_verdict"] == "equal within 0.0001 %"
    (pair,) = tabulated(tmp_path / "t", {"none": fvu(0.1, 0.1), "a": fvu(*[float(np.nextafter(0.1, 1))] * 2)})
    assert (pair["fvu_verdict"], pair["fvu_p"]) == ("equal within 0.0001 %", 1.0)


def test_two_arms_without_dead_latents_are_equal_to_within_one(tmp_path: Path):
    arms: Arms = {name: [(0.1 + 0.01 * seed, 0.0) for seed in range(3)] for name in ("none", "a")}
    (pair,) = tabulated(tmp_path / "s", arms)
    assert pair["dead_verdict"] == "equal within 0.098 points"
    assert (pair["dead_points"], pair["dead_p"]) == (0.0, 1.0)
    assert -0.1 < pair["dead_points_low"] < 0 < pair["dead_points_high"] < 0.1


def test_one_dead_latent_in_each_seed_is_not_higher_than_none(tmp_path: Path):
    arms: Arms = {"none": [(0.1, 0.0)] * 3, "a": [(0.1, 1 / 1024)] * 3}
    (pair,) = tabulated(tmp_path / "s", arms)
    assert pair["dead_points"] == pytest.approx(0.0977, abs=1e-4)
    assert pair["dead_points_low"] < pair["dead_points"] < pair["dead_points_high"]
    assert pair["dead_verdict"] == "undecided"


def test_equality_needs_an_interval_inside_the_margin(tmp_path: Path):
    arms = {"none": fvu(0.100, 0.101, 0.099), "a": fvu(0.1005, 0.0995, 0.101), "b": fvu(0.110, 0.111, 0.109)}
    verdicts = [
        [pair["fvu_verdict"] for pair in tabulated(tmp_path / str(margin), arms, indifference={"fvu": margin})]
        for margin in (1.0, 5.0, 30.0)
    ]
    assert verdicts == [
        ["undecided", "higher"],
        ["equal within 5 %", "higher"],
        ["equal within 30 %", "equal within 30 %"],  # a difference that is real and does not matter
    ]


def test_holm_counts_the_comparisons_of_one_outcome(tmp_path: Path):
    rng = np.random.default_rng(0)
    arms = {name: fvu(*(0.1 * np.exp(0.01 * rng.standard_normal(4)))) for name in ("none", *"abcde")}
    pairs = tabulated(tmp_path / "s", arms)
    p_values = sorted(pair["fvu_p"] for pair in pairs)
    smallest = min(pairs, key=lambda pair: pair["fvu_p"])
    assert smallest["fvu_p_holm"] == pytest.approx(min(1, 5 * p_values[0]))
    assert max(pair["fvu_p_holm"] for pair in pairs) <= 1


def test_what_is_undecided_says_how_many_seeds_would_settle_it(tmp_path: Path):
    arms = {"none": fvu(0.100, 0.102, 0.098), "a": fvu(0.102, 0.104, 0.100)}
    (pair,) = tabulated(tmp_path / "s", arms)
    assert pair["fvu_verdict"] == "undecided"
    assert 3 < pair["fvu_seeds_needed"] < 200
    (pair_with_margin,) = tabulated(tmp_path / "t", arms, indifference={"fvu": 50.0})
    assert pair_with_margin["fvu_verdict"] == "equal within 50 %"
    assert pair_with_margin["fvu_seeds_needed"] is None
    (finding,) = findings(load_view(tmp_path / "s"))["layers"]
    assert f"undecided ({pair['fvu_seeds_needed']} seeds in each arm would settle it)" in finding.text


def test_seeds_may_be_unequal_in_number(tmp_path: Path):
    arms = {"none": fvu(0.100, 0.102, 0.098, 0.101, 0.099), "a": fvu(0.110, 0.111, None, None, None)}
    (pair,) = tabulated(tmp_path / "s", arms)
    assert (pair["n"], pair["n_reference"], pair["fvu_verdict"]) == (2, 5, "higher")
    (finding,) = findings(load_view(tmp_path / "s"))["layers"]
    assert "a instead of none, 2 seeds against 5: FVU +10" in finding.text


def test_one_seed_has_no_interval(tmp_path: Path):
    (pair,) = tabulated(tmp_path / "s", {"none": fvu(0.1), "a": fvu(0.2)}, indifference={"fvu": 1.0})
    assert pair["fvu_percent"] == pytest.approx(100)
    assert [pair[f"fvu_{name}"] for name in ("percent_low", "p", "p_holm", "seeds_needed")] == [None] * 4
    assert pair["fvu_verdict"] == "no interval"


def test_planned_looks_have_a_stricter_level(tmp_path: Path):
    arms = {"none": fvu(0.100, 0.102, 0.098), "a": fvu(0.103, 0.105, 0.1043)}
    (once,) = tabulated(tmp_path / "s", arms)
    (looked,) = tabulated(tmp_path / "t", arms, looks=[3, 5, 8])
    assert level([3, 5, 8]) < once["fvu_p"] < 0.05
    assert (once["fvu_verdict"], looked["fvu_verdict"]) == ("higher", "undecided")
    assert looked["fvu_percent_low"] < once["fvu_percent_low"]
    for folder, confidence in (("s", "95 %"), ("t", "98 %")):
        view = load_view(tmp_path / folder)
        for name in ("arms", "effects"):
            table = shown_table(view, name)
            assert table is not None
            assert f"with {confidence} intervals in brackets" in table.note
        assert f"{confidence} intervals" in view.seeds_note


def test_an_arm_that_stopped_at_an_earlier_look_keeps_its_verdict(tmp_path: Path):
    """The baseline went on to eight seeds for the sake of another arm."""
    first = {"none": fvu(0.100, 0.102, 0.098), "a": fvu(0.110, 0.112, 0.1113), "b": fvu(0.101, 0.102, 0.100)}
    (then, _) = tabulated(tmp_path / "s", first, looks=[3, 5, 8])
    more = {"none": fvu(0.09, 0.13, 0.12, 0.08, 0.10), "b": fvu(0.101, 0.102, 0.100, 0.1, 0.1)}
    both = {name: seeds + more.get(name, []) for name, seeds in first.items()}
    (now, other) = tabulated(tmp_path / "t", both, looks=[3, 5, 8])
    assert {name: now[name] for name in now if name.startswith("fvu_per")} == {
        name: then[name] for name in then if name.startswith("fvu_per")
    }
    assert (now["n"], now["n_reference"], now["fvu_verdict"]) == (3, 3, "higher")
    assert (other["n"], other["n_reference"]) == (8, 8)


def test_zero_in_a_figure_has_no_percent_and_nothing_breaks(tmp_path: Path):
    (pair,) = tabulated(tmp_path / "s", {"none": fvu(0.0, 0.1), "a": fvu(0.1, 0.1)})
    assert (pair["fvu_percent"], pair["fvu_verdict"], pair["n"]) == (None, "no interval", 2)


def test_tables_of_reads_and_writes_nothing(tmp_path: Path):
    cells = [cell_record({"layers": name}, seed, 0.1 + 0.01 * seed) for name in ("none", "a") for seed in (0, 1)]
    study = study_record("s", {"layers": ["none", "a"]}, [0, 1], cells=4)
    (tmp_path / "curves.jsonl").write_text("")
    curves = read_curves(tmp_path)
    tables = tables_of(StudyRecord(**study), [CellRecord(**cell) for cell in cells], curves)
    assert tables["effects"].height == 2
    assert {path.name for path in tmp_path.iterdir()} == {"curves.jsonl"}


def test_settings_that_may_have_been_chosen_widen_the_interval(tmp_path: Path):
    """FVU does not tell two rates apart, which have 5 and 30 % dead latents."""
    axes = {"layers": ["none"], "lr": [0.01, 0.02]}
    for near, folder in ((0.1001, tmp_path / "near"), (0.2, tmp_path / "far")):
        cells = [
            cell_record({"layers": "none"}, seed, mean + 0.001 * seed, {"lr": lr}, dead=dead + 0.005 * seed)
            for lr, mean, dead in ((0.01, 0.1, 0.05), (0.02, near, 0.30))
            for seed in range(3)
        ]
        write(folder, study_record(folder.name, axes, [0, 1, 2], cells=6), cells, [])
        make_tables(folder)
    near_arm, far_arm = (read_table(tmp_path / name, "arms").to_dicts()[0] for name in ("near", "far"))
    assert near_arm["dead_fraction"] == far_arm["dead_fraction"] == pytest.approx(0.055)
    assert far_arm["dead_fraction_high"] < 0.1 < 0.2 < near_arm["dead_fraction_high"] < 0.4
    assert math.isclose(far_arm["choice_factor"], 1, rel_tol=0.05)
    assert near_arm["choice_factor"] > 3
