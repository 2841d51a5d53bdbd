"""Figures that are no numbers, zeros to divide by, curves that begin late: left out by name, never averaged."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.analysis.figures import FIGURES
from harness.analysis.plots.style import house_style
from harness.analysis.report import make_report
from harness.analysis.results.files import read_table
from harness.analysis.sentences.findings import findings
from harness.analysis.sentences.warnings import warnings
from harness.analysis.summary import summary
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from harness.metrics import metrics_at
from tests.analysis.synthetic_results import cell_record, curve_records, study_record, write

LAYERS = {"layers": ["none", "sparse 3"]}
FINAL = [metric.name for metric in metrics_at("final")]
OTHERS = [metric.name for metric in metrics_at("final") if metric.optional]
FIGURES_OF_OTHERS = dict.fromkeys(OTHERS, 0.5) | {"invalid_answers": 0.0, "latents_unscored": 0.0}  # no warnings


def records(fvu: float = 0.1) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two arms in three seeds with every figure, and their curves of four points; the reference at `fvu`."""
    cells = [
        cell_record({"layers": name}, seed, figure, dead=0.1, features=FIGURES_OF_OTHERS)
        for name, figure in (("none", fvu), ("sparse 3", 0.08))
        for seed in range(3)
    ]
    return cells, [point for cell in cells for point in curve_records(cell, points=4)]


def tabulate(folder: Path, cells: list[dict[str, Any]], curves: list[dict[str, Any]], **study: Any) -> None:
    write(folder, study_record(folder.name, LAYERS, [0, 1, 2], cells=len(cells), **study), cells, curves)
    make_tables(folder)


def report(folder: Path, cells: list[dict[str, Any]], curves: list[dict[str, Any]]) -> str:
    """Everything is made of it; returns the page."""
    tabulate(folder, cells, curves)
    view = load_view(folder)
    with house_style():
        for draw in FIGURES.values():
            draw(view)
    (folder / "figures").mkdir()
    (folder / "figures" / "arms.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    Console(file=io.StringIO()).print(summary(folder))
    return make_report(folder).read_text()


@pytest.mark.parametrize("value", [math.nan, pytest.param(math.inf, marks=pytest.mark.chaos)])
def test_a_figure_that_is_no_number_is_left_out_and_named(tmp_path: Path, value: float):
    cells, curves = records()
    for metric in [name for name in FINAL if name != "fvu"]:
        before, cells[4]["heldout"] = cells[4]["heldout"], cells[4]["heldout"] | {metric: value}
        tabulate(tmp_path / metric, cells, curves)
        said = warnings(load_view(tmp_path / metric))
        assert said == [f"sparse 3, seed 1: left out, since not finite: {metric}."]
        arm = read_table(tmp_path / metric, "arms").to_dicts()[1]
        assert arm["n"] == 3
        assert arm[metric] == pytest.approx(cells[3]["heldout"][metric])  # of seeds 0 and 2, which are equal
        cells[4]["heldout"] = before


def test_a_whole_arm_without_them_is_drawn_and_reported(tmp_path: Path):
    cells, curves = records()
    for cell in cells[3:]:
        cell["heldout"] |= dict.fromkeys([name for name in FINAL if name != "fvu"], math.nan)
        cell["layers"][1]["dead_fraction"] = math.nan
    page = report(tmp_path / "s", cells, curves)
    assert "mcc; f1; uniqueness; detection; " in page
    assert "; dead_fraction of layer 2." in page
    assert read_table(tmp_path / "s", "arms").to_dicts()[1]["dead_fraction"] is None


def test_a_complete_cell_without_a_finite_fvu_counts_as_diverged(tmp_path: Path):
    cells, curves = records()
    cells[4]["heldout"]["fvu"] = math.inf
    page = report(tmp_path / "s", cells, curves)
    assert "sparse 3, seed 1: diverged (the held-out FVU is inf)." in page
    assert json.loads((tmp_path / "s" / "metrics.json").read_text())["cells"]["diverged"] == 1


@pytest.mark.parametrize(
    "column", ["heldout_fvu", "heldout_l0", "heldout_mse", "train_fvu", "train_dead_fraction"]
)
def test_a_point_of_a_curve_that_is_no_number_is_left_out_and_named(tmp_path: Path, column: str):
    cells, curves = records()
    curves[4 * 4 + 2][column] = math.nan  # sparse 3, seed 1, the third point
    tabulate(tmp_path / "s", cells, curves)
    expected = f"sparse 3, seed 1: left out, since not finite: {column} at 196,608 tokens."
    assert warnings(load_view(tmp_path / "s")) == [expected]
    rows = [row for row in read_table(tmp_path / "s", "curves").to_dicts() if row["arm"] == "sparse 3"]
    # no mean of the other seeds there: it would make a step in the curve
    assert [row[column] is None for row in rows] == [False, False, True, False]


def test_no_percent_of_a_reference_without_error(tmp_path: Path):
    cells, _ = records(fvu=0.0)
    report(tmp_path / "s", cells, [])
    effect, _ = read_table(tmp_path / "s", "effects").to_dicts()
    assert (effect["n"], effect["fvu_percent"], effect["fvu_verdict"]) == (3, None, "no interval")
    assert effect["fvu_difference"] == pytest.approx(0.08)
    (finding,) = findings(load_view(tmp_path / "s"))["layers"]
    expected = "no change of FVU in percent, since one of the figures is 0; dead latents +0.0 points"
    assert finding.text.startswith(f"sparse 3 instead of none: {expected}")


def test_no_death_is_drawn_before_the_window_is_full(tmp_path: Path):
    cells, curves = records()  # points at 65,536, 131,072, ... tokens
    for point in curves:
        if point["tokens"] > 200_000:
            del point["train_dead_fraction"]  # as the sweep writes what is not known
    tabulate(tmp_path / "s", cells, curves, dead_window=100_000)
    deaths = [row["train_dead_fraction"] is None for row in read_table(tmp_path / "s", "curves").to_dicts()]
    assert deaths == [True, False, False, True] * 2
    assert warnings(load_view(tmp_path / "s")) == []


def test_each_arm_has_its_own_dead_window(tmp_path: Path):
    axes = {"window": ["short", "long"], "dead_window": [65_536, 131_072]}
    cells = [cell_record({"window": "short", "dead_window": window}, 0, 0.1) for window in (65_536, 131_072)]
    cells.append(cell_record({"window": "long", "dead_window": None}, 0, 0.1))
    del cells[2]["arm"]["dead_window"]
    curves = [point for cell in cells for point in curve_records(cell, points=4)]
    settings = {"window": {"short": {}, "long": {"dead_window": 200_000}}}
    write(tmp_path / "s", study_record("s", axes, [0], settings=settings, cells=3), cells, curves)
    make_tables(tmp_path / "s")
    known = [row["train_dead_fraction"] is not None for row in read_table(tmp_path / "s", "curves").to_dicts()]
    assert known == [True, True, True, True, False, True, True, True, False, False, False, True]


def test_dollars_in_a_name_are_dollars(tmp_path: Path):
    level = r"$\frac{1}{$"  # matplotlib would take it for a formula, and fail
    axes = {"remedy": ["none", level]}
    cells = [cell_record({"remedy": name}, seed, 0.1 + seed / 100) for name in axes["remedy"] for seed in range(2)]
    curves = [point for cell in cells for point in curve_records(cell, points=2)]
    write(tmp_path / "s", study_record("s", axes, [0, 1], cells=4), cells, curves)
    make_tables(tmp_path / "s")
    with house_style():
        for draw in FIGURES.values():
            figure = draw(load_view(tmp_path / "s"))
            if figure is not None:
                figure.draw_without_rendering()
