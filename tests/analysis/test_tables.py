"""From records to tables: every cell once, hand-computed effects, mistakes named."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from harness.analysis.latent_page.cells import page_cells
from harness.analysis.report import make_report
from harness.analysis.results.files import TABLES, read_study, read_table
from harness.analysis.sentences.findings import findings
from harness.analysis.sentences.warnings import warnings
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from harness.errors import UserError
from tests.analysis.synthetic_results import (
    cell_record,
    curve_records,
    study_record,
    write,
    write_depth,
    write_grid,
)

LAYERS = {"layers": ["none", "sparse 3"]}


def one_row(table: pl.DataFrame, **where: Any) -> dict[str, Any]:
    rows = table.filter(*(pl.col(name) == value for name, value in where.items())).to_dicts()
    assert len(rows) == 1, f"{where}: {len(rows)} rows"
    return rows[0]


def tables_of(folder: Path, cells: list[dict[str, Any]], axes: dict[str, list[Any]], seeds: int = 3) -> Path:
    """A folder without curves, tabulated."""
    write(folder, study_record(folder.name, axes, list(range(seeds)), cells=len(cells)), cells, [])
    make_tables(folder)
    return folder


def pair_of_arms(levels: list[float | None], reference: list[float | None]) -> list[dict[str, Any]]:
    return [
        cell_record({"layers": name}, seed, fvu)
        for name, column in (("none", reference), ("sparse 3", levels))
        for seed, fvu in enumerate(column)
    ]


def test_every_cell_is_there_once_whatever_became_of_it(depth: Path):
    cells = read_table(depth, "cells")
    written = [json.loads(line)["cell"] for line in (depth / "cells.jsonl").read_text().splitlines()]
    assert sorted(cells["cell"]) == sorted(written)
    assert dict(cells["state"].value_counts().iter_rows()) == {"complete": 86, "diverged": 1, "missing": 3}
    assert one_row(cells, state="diverged")["reason"] == "loss is not finite at step 212"


OF_LATENTS = ("latents", "interpretability_variance", "nulls", "above_nulls")


def test_csv_says_the_same_as_parquet(depth: Path):
    for name in TABLES:
        table = read_table(depth, name)
        assert bool(table.width) == (name not in OF_LATENTS), name
        if name in OF_LATENTS:  # which this study does not ask about
            continue
        csv = pl.read_csv(depth / "tables" / f"{name}.csv", schema=table.schema)
        assert csv.to_dicts() == table.to_dicts(), name


def test_tables_have_the_same_bytes_each_time(tmp_path: Path, depth: Path):
    again = write_depth(tmp_path / "depth")
    make_tables(again)
    for path in sorted((depth / "tables").iterdir()):
        assert path.read_bytes() == (again / "tables" / path.name).read_bytes(), path.name
    assert (depth / "metrics.json").read_bytes() == (again / "metrics.json").read_bytes()


def test_tables_do_not_depend_on_the_order_of_the_records(tmp_path: Path, depth: Path):
    again = write_depth(tmp_path / "depth")
    for name in ("cells.jsonl", "curves.jsonl"):
        lines = (again / name).read_text().splitlines(keepends=True)
        (again / name).write_text("".join(reversed(lines)))
    make_tables(again)
    for path in sorted((depth / "tables").iterdir()):
        assert path.read_bytes() == (again / "tables" / path.name).read_bytes(), path.name


def test_arm_means_are_those_of_its_seeds(tmp_path: Path):
    results = tables_of(tmp_path / "s", pair_of_arms([0.1, 0.2, 0.3], [0.4, 0.4, 0.4]), LAYERS)
    arm = one_row(read_table(results, "arms"), arm="sparse 3")
    assert arm["fvu"] == pytest.approx(0.2)
    # of two arms, one without spread: the own variance, with 1 / (0.75² / 2 + 0.25² / 2) degrees of freedom
    half = stats.t.ppf(0.975, 3.2) * np.log([0.1, 0.2, 0.3]).std(ddof=1) / 3**0.5
    assert (arm["fvu_low"], arm["fvu_high"]) == pytest.approx((0.2 / math.exp(half), 0.2 * math.exp(half)))
    assert arm["nmse"] == pytest.approx(0.22)  # the records' nmse is 1.1 times their fvu
    assert (arm["n"], arm["failed"], arm["selection"]) == (3, 0, "not tuned")


def test_effect_is_a_difference_of_mean_logarithms(tmp_path: Path):
    results = tables_of(tmp_path / "s", pair_of_arms([0.11, 0.22, 0.33], [0.10, 0.20, 0.30]), LAYERS)
    effect = one_row(read_table(results, "effects"), kind="pair")
    assert (effect["level"], effect["reference"], effect["holding"]) == ("sparse 3", "none", "")
    assert effect["fvu_difference"] == pytest.approx(0.02)
    # two arms of the same spread: Student's t-test of two samples
    test = stats.ttest_ind(np.log([0.11, 0.22, 0.33]), np.log([0.10, 0.20, 0.30]))
    low, high = np.expm1(test.confidence_interval())
    assert effect["fvu_percent"] == pytest.approx(10.0)
    assert (effect["fvu_percent_low"], effect["fvu_percent_high"]) == pytest.approx((100 * low, 100 * high))
    assert (effect["fvu_p"], effect["fvu_p_holm"]) == pytest.approx((test.pvalue, test.pvalue))
    assert (effect["n"], effect["n_reference"], effect["fvu_verdict"]) == (3, 3, "undecided")
    assert (effect["dead_points"], effect["dead_verdict"]) == (0.0, "equal within 0.098 points")


def test_effect_in_percent_does_not_depend_on_which_seed_is_which(tmp_path: Path):
    results = tables_of(tmp_path / "s", pair_of_arms([0.1, 0.4], [0.4, 0.1]), LAYERS, seeds=2)
    effect = one_row(read_table(results, "effects"), kind="pair")
    assert effect["fvu_percent"] == pytest.approx(0.0, abs=1e-9)  # the mean of −75 % and +300 % is +112 %
    assert effect["fvu_percent_low"] > -100


def test_effect_of_dead_latents_is_in_points_and_possible(tmp_path: Path):
    cells = [cell_record({"layers": "none"}, seed, 0.1, dead=0.0) for seed in range(3)]
    cells += [
        cell_record({"layers": "sparse 3"}, seed, 0.1, dead=count / 1024) for seed, count in enumerate((0, 1, 9))
    ]
    results = tables_of(tmp_path / "s", cells, LAYERS)
    effect = one_row(read_table(results, "effects"), kind="pair")
    assert effect["dead_points"] == pytest.approx(100 * 10 / 3 / 1024)
    none, sparse = read_table(results, "arms").to_dicts()
    assert (none["dead_fraction"], none["dead_fraction_low"]) == (0, 0)
    assert 0 < none["dead_fraction_high"] < 0.03  # counts vary as in the other arm
    assert 0 <= sparse["dead_fraction_low"] < 10 / 3072 < sparse["dead_fraction_high"]


def test_alive_latents_are_those_that_are_not_dead(tmp_path: Path):
    """Their interval ends at the number of latents, and is that of the dead ones turned round."""
    dead = {"none": (0.02, 0.01, 0.3), "sparse 3": (0.0, 0.001, 0.0)}
    cells = [
        cell_record({"layers": layers}, seed, 0.1 + 0.001 * seed, dead=share)
        for layers, shares in dead.items()
        for seed, share in enumerate(shares)
    ]
    for arm in read_table(tables_of(tmp_path / "s", cells, LAYERS), "arms").to_dicts():
        assert arm["alive"] == pytest.approx(1024 * (1 - arm["dead_fraction"]), abs=0.5)
        assert arm["alive_low"] == pytest.approx(1024 * (1 - arm["dead_fraction_high"]))
        assert arm["alive_high"] == pytest.approx(1024 * (1 - arm["dead_fraction_low"]))


def test_an_arm_is_compared_with_all_of_its_seeds(tmp_path: Path):
    results = tables_of(tmp_path / "s", pair_of_arms([0.2, None, 0.4], [0.1, 0.1, 0.1]), LAYERS)
    effect = one_row(read_table(results, "effects"), kind="pair")
    assert (effect["n"], effect["n_reference"]) == (2, 3)
    assert effect["fvu_difference"] == pytest.approx(0.2)
    assert effect["fvu_reference"] == pytest.approx(0.1)
    arm = one_row(read_table(results, "arms"), arm="sparse 3")
    assert (arm["n"], arm["failed"]) == (2, 1)


def test_an_arm_without_any_result_stays_in_the_tables(tmp_path: Path):
    results = tables_of(tmp_path / "s", pair_of_arms([None, None, None], [0.1, 0.1, 0.1]), LAYERS)
    arm = one_row(read_table(results, "arms"), arm="sparse 3")
    assert (arm["n"], arm["failed"], arm["fvu"]) == (0, 3, None)
    pair = one_row(read_table(results, "effects"), kind="pair")
    assert (pair["n"], pair["fvu_verdict"]) == (0, "no interval")


def test_marginal_averages_over_pairs(tmp_path: Path):
    axes = {"layers": ["none", "sparse 3"], "optimizer": ["adam", "muon"]}
    percent = {"adam": [10, 20, 30], "muon": [30, 20, 10]}

    def fvu(levels: dict[str, Any], seed: int) -> float:
        spread = [0.099, 0.100, 0.101][seed]
        return spread * (1 + (percent[levels["optimizer"]][seed] / 100 if levels["layers"] != "none" else 0))

    results = write_grid(tmp_path / "s", axes, 3, fvu)
    make_tables(results)
    effects = read_table(results, "effects")
    marginal = one_row(effects, axis="layers", kind="marginal")
    assert marginal["pairs"] == 2
    ratio = (1.1 * 1.2 * 1.3) ** (1 / 3)
    assert marginal["fvu_percent"] == pytest.approx(100 * (ratio - 1))
    pairs = effects.filter(pl.col("axis") == "layers", pl.col("kind") == "pair")
    assert pairs["holding"].to_list() == ["adam", "muon"]
    assert pairs["fvu_percent"].to_list() == pytest.approx([100 * (ratio - 1)] * 2)
    # the mean of two pairs has half the variance, and more degrees of freedom
    for low, whole in ((marginal["fvu_percent_low"], 2**0.5), (pairs["fvu_percent_low"][0], 1)):
        assert (
            math.log(ratio / (1 + low / 100))
            < math.log(ratio / (1 + pairs["fvu_percent_low"][0] / 100)) / whole + 1e-9
        )


def test_pairs_that_each_lost_another_seed_still_have_a_mean(tmp_path: Path):
    axes = {"layers": ["none", "sparse 3"], "optimizer": ["adam", "muon"]}
    lost = {("adam", 0), ("muon", 1)}

    def fvu(levels: dict[str, Any], seed: int) -> float | None:
        gone = levels["layers"] != "none" and (levels["optimizer"], seed) in lost
        return None if gone else 0.1 + 0.001 * seed

    results = write_grid(tmp_path / "s", axes, 2, fvu)
    make_tables(results)
    marginal = one_row(read_table(results, "effects"), axis="layers", kind="marginal")
    assert (marginal["n"], marginal["n_reference"], marginal["pairs"]) == (1, 2, 2)
    assert marginal["fvu_percent"] == pytest.approx(0.0, abs=0.5)
    assert (marginal["fvu_percent_low"], marginal["fvu_verdict"]) == (None, "no interval")  # one seed in an arm
    (finding, *_) = findings(load_view(results))["layers"]
    assert "mean over 2 pairs of arms, 1 seed against 2: FVU" in finding.text


def test_conditional_arms_are_compared_only_where_both_exist(depth: Path):
    effects = read_table(depth, "effects").filter(pl.col("kind") == "pair")
    muon = effects.filter(pl.col("axis") == "optimizer")
    assert muon["holding"].to_list() == ["none, penalty 0", "dense 2-2, penalty 0.1", "sparse 3, penalty 0"]
    sparse = effects.filter(pl.col("level") == "sparse 3")
    assert sparse["holding"].to_list() == ["penalty 0, adam", "penalty 0, muon"]


def test_an_arm_may_lack_an_axis(tmp_path: Path):
    axes = {"layers": ["none", "sparse 3"], "penalty": [0, 0.1]}
    cells = [cell_record({"layers": "none"}, 0, 0.1)]
    cells += [cell_record({"layers": "sparse 3", "penalty": penalty}, 0, 0.08) for penalty in (0, 0.1)]
    results = tables_of(tmp_path / "s", cells, axes, seeds=1)
    arms = read_table(results, "arms")
    assert arms["arm"].to_list() == ["none", "sparse 3, penalty 0", "sparse 3, penalty 0.1"]
    assert arms["axis_penalty"].to_list() == [None, 0.0, 0.1]
    assert read_table(results, "effects").filter(pl.col("kind") == "pair")["axis"].to_list() == ["penalty"]


def test_a_setting_may_be_off(tmp_path: Path):
    axes = {"aux_k": [None, 4, 8]}
    cells = [cell_record({"aux_k": k}, seed, 0.1 / (k or 1)) for k in axes["aux_k"] for seed in (0, 1)]
    results = tables_of(tmp_path / "s", cells, axes, seeds=2)
    arms = read_table(results, "arms")
    assert arms["arm"].to_list() == ["aux_k none", "aux_k 4", "aux_k 8"]
    assert arms["axis_aux_k"].to_list() == [None, 4, 8]
    effects = read_table(results, "effects").filter(pl.col("kind") == "marginal")
    assert effects["reference"].to_list() == ["none", "none"]
    assert effects["level"].to_list() == ["4", "8"]


def tuned_cells(scores: dict[float, list[float | None]], state: str = "diverged") -> list[dict[str, Any]]:
    return [
        cell_record({}, seed, fvu, {"lr": lr}, **({"state": state} if fvu is None else {}))
        for lr, column in scores.items()
        for seed, fvu in enumerate(column)
    ]


def test_no_seed_is_reported_where_it_chose(tmp_path: Path):
    cells = tuned_cells({0.001: [0.1, 0.1, 0.9], 0.01: [0.2, 0.2, 0.2]})
    results = tables_of(tmp_path / "s", cells, {"lr": [0.001, 0.01]})
    arm = one_row(read_table(results, "arms"))
    assert (arm["axis_lr"], arm["agreement"], arm["selection"]) == (0.01, "2 of 3 seeds", "cross-fitted")
    assert arm["fvu"] == pytest.approx((0.2 + 0.2 + 0.9) / 3)
    assert read_table(results, "seeds")["axis_lr"].to_list() == [0.01, 0.01, 0.001]


@pytest.mark.parametrize("state", ["diverged", "missing"])
def test_a_lost_seed_does_not_let_its_setting_win_with_the_others(tmp_path: Path, state: str):
    cells = tuned_cells({0.008: [0.120, 0.121, 0.1215], 0.016: [0.100, 0.101, None]}, state)
    results = tables_of(tmp_path / "s", cells, {"lr": [0.008, 0.016]})
    arm = one_row(read_table(results, "arms"))
    assert (arm["axis_lr"], arm["n"], arm["diverged"], arm["missing"]) == (0.008, 3, 0, 0)
    assert arm["fvu"] == pytest.approx((0.120 + 0.121 + 0.1215) / 3)
    expected = "s, lr 0.016: a result at 2 of 3 seeds only, so it was not compared with its other settings."
    assert expected in warnings(load_view(results))


def test_a_seed_that_is_missing_everywhere_does_not_change_the_choice(depth: Path):
    arm = one_row(read_table(depth, "arms"), arm="dense_encoder 2, penalty 0.1, adam")
    assert (arm["axis_lr"], arm["n"], arm["missing"]) == (0.004, 2, 1)


def test_an_arm_that_lost_every_cell_is_said_to_have_nothing_chosen(tmp_path: Path):
    results = tables_of(tmp_path / "s", tuned_cells({0.01: [None] * 3, 0.1: [None] * 3}), {"lr": [0.01, 0.1]})
    arm = one_row(read_table(results, "arms"))
    assert (arm["selection"], arm["n"], arm["diverged"]) == ("unselected", 0, 3)
    assert read_table(results, "tuning")["chosen"].to_list() == [False, False]
    expected = (
        "s: no tuned value was chosen, since its settings have no seed in common at which they have a result"
    )
    assert f"{expected}; it is shown at the first one." in warnings(load_view(results))


def test_a_complete_cell_whose_figure_is_no_number_counts_as_diverged(tmp_path: Path):
    cells = pair_of_arms([0.1, math.nan, 0.1], [0.1, 0.1, 0.1])
    arm = one_row(read_table(tables_of(tmp_path / "s", cells, LAYERS), "arms"), arm="sparse 3")
    assert (arm["n"], arm["diverged"]) == (2, 1)


def test_edge_is_that_of_the_arms_own_list(depth: Path):
    tuning = read_table(depth, "tuning")
    muon = tuning.filter(pl.col("arm") == "none, penalty 0, muon")
    assert muon["axis_lr"].to_list() == [0.005, 0.02]  # inside the axis, ends of Muon's list
    assert muon["edges"].to_list() == ["lr lowest", "lr highest"]
    adam = tuning.filter(pl.col("arm") == "none, penalty 0, adam")
    assert adam["at_edge"].to_list() == [True, False, True]
    assert adam["chosen"].to_list() == [False, True, False]
    lost = tuning.filter(pl.col("lost") > 0)
    assert lost.select("arm", "axis_lr", "n").rows() == [
        ("dense 2-4-4-2, penalty 0, adam", 0.016, 2),
        *(("dense_encoder 2, penalty 0.1, adam", lr, 2) for lr in (0.001, 0.004, 0.016)),
    ]


def test_curves_are_means_of_the_reported_cells(tmp_path: Path):
    cells = [cell for cell in pair_of_arms([0.1, 0.3, None], [0.5, 0.5, 0.5]) if cell["arm"]["layers"] != "none"]
    curves = [point for cell in cells if cell["heldout"] for point in curve_records(cell, points=2)]
    curves.append(curves[0] | {"cell": cells[2]["cell"], "heldout_fvu": 9.9})  # it failed after its first point
    results = write(tmp_path / "s", study_record("s", LAYERS, [0, 1, 2], cells=3), cells, curves)
    make_tables(results)
    table = read_table(results, "curves")
    assert table["trained_tokens"].to_list() == [65536, 131072]
    assert table["n"].to_list() == [2, 2]
    assert table["heldout_fvu"][-1] == pytest.approx(0.2)


def test_metrics_are_short_and_nested(depth: Path):
    metrics = json.loads((depth / "metrics.json").read_text())
    assert metrics["cells"] == {
        "designed": 90,
        "complete": 86,
        "diverged": 1,
        "pruned": 0,
        "failed": 0,
        "missing": 3,
    }
    assert set(metrics["arms"]["none, penalty 0, adam"]) == {"n", "fvu", "dead_fraction", "l0"}
    lost = metrics["arms"]["dense_encoder 2, penalty 0.1, adam"]
    assert (lost["n"], lost["missing"]) == (2, 1)


def test_a_missing_folder_names_the_command(tmp_path: Path):
    with pytest.raises(UserError, match=r"depth: no study.json: run `harness run studies/depth.yaml` first"):
        make_tables(tmp_path / "depth")


def test_commands_name_the_file_of_the_study_wherever_it_is(tmp_path: Path):
    study = study_record("depth", {"layers": ["none"]}, [0], file="mine/depth.yaml")
    (tmp_path / "study.json").write_text(json.dumps(study))
    (tmp_path / "cells.jsonl").touch()
    for read in (make_tables, lambda results: read_table(results, "arms"), make_report):
        with pytest.raises(UserError, match=r"`harness (run|report) mine/depth.yaml` first"):
            read(tmp_path)
    with pytest.raises(UserError, match=r"`harness run mine/depth.yaml` makes them"):
        page_cells(tmp_path, read_study(tmp_path), [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", r"cells.jsonl:2: cell: Field required"),
        ("not json", r"cells.jsonl:2: file: Invalid JSON"),
        (json.dumps(cell_record({"layers": "none"}, 0, 0.1)), "is here twice"),
        (json.dumps(cell_record({"layers": "dense 9-9"}, 0, 0.1)), "'dense 9-9' is no level of this axis"),
        (json.dumps(cell_record({"layers": "sparse 3"}, 7, 0.1)), r"seed: expected one of \[0\]"),
        (json.dumps(cell_record({"layers": "sparse 3"}, 0, 0.1, heldout=None)), "expected figures"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, line: str, message: str):
    results = write(tmp_path / "s", study_record("s", LAYERS, [0]), [cell_record({"layers": "none"}, 0, 0.1)], [])
    with (results / "cells.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=message):
        make_tables(results)
    assert not (results / "tables").exists()


def test_reading_a_table_before_it_is_made_names_the_command(tmp_path: Path):
    with pytest.raises(UserError, match=r"no tables/arms\.parquet"):
        read_table(tmp_path / "depth", "arms")


def test_stacked_layers_are_listed_one_by_one(depth: Path):
    rows = read_table(depth, "layers").to_dicts()
    stacked = [row for row in rows if row["arm"] == rows[0]["arm"]]
    assert {row["axis_layers"] for row in rows} == {"sparse 3"}  # a single layer is what the arms table says
    assert [row["layer"] for row in stacked] == [1, 2, 3]
    assert [row["unexplained"] for row in stacked[:2]] == [0.5, 0.25]
    (arm,) = [row for row in read_table(depth, "arms").to_dicts() if row["arm"] == stacked[0]["arm"]]
    assert stacked[2]["unexplained"] == pytest.approx(arm["fvu"])
    assert stacked[2]["l0"] == pytest.approx(16 / 3)


def test_computed_figures_have_no_digits_that_depend_on_the_machine(tmp_path: Path):
    """Sums differ in the last bits with where numpy's memory lies."""
    results = write_grid(
        tmp_path / "s", {"layers": ["none", "a", "b"]}, 3, lambda levels, seed: 0.1 + 0.0017 * seed
    )
    make_tables(results)
    for name in ("arms", "effects", "frontier"):
        for text in re.findall(r"(?<=,)0\.0*([1-9][0-9]*)(?=[,\n])", (results / f"tables/{name}.csv").read_text()):
            assert len(text) <= 12
