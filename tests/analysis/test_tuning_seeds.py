"""Tuned values chosen on seeds of their own: what is reported, what is missing, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from harness.analysis.plots import tuning
from harness.analysis.plots.style import house_style
from harness.analysis.report import facts
from harness.analysis.results.files import read_table
from harness.analysis.sentences.warnings import warnings
from harness.analysis.tables import make_tables
from harness.analysis.views.view import View, load_view
from harness.errors import UserError
from tests.analysis.synthetic_results import cell_record, study_record, write

AXES = {"layers": ["none", "sparse 3"], "lr": [0.001, 0.004, 0.016]}
SEARCH = {0.001: [0.3, 0.3], 0.004: [0.1, 0.1], 0.016: [0.2, 0.2]}  # lr: FVU of the tuning seeds 10 and 11


def searched(layers: str, search: dict[float, list[float | None]], reported: list[float]) -> list[dict[str, Any]]:
    """Cells of an arm: the search, and the seeds 0, 1, .. at lr 0.004."""
    arm = {"layers": layers}
    cells = [
        cell_record(arm, seed, fvu, {"lr": lr}) for lr, row in search.items() for seed, fvu in enumerate(row, 10)
    ]
    return cells + [cell_record(arm, seed, fvu, {"lr": 0.004}) for seed, fvu in enumerate(reported)]


def tabulate(folder: Path, cells: list[dict[str, Any]], seeds: int = 3, axes: dict[str, list[Any]] = AXES) -> Path:
    study = study_record("s", axes, list(range(seeds)), tuning_seeds=[10, 11], cells=len(cells))
    write(folder, study, cells, [])
    make_tables(folder)
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = searched("none", SEARCH, [0.11, 0.12, 0.13])
    # an arm of one setting; a seed of the search would have it at 0.5
    cells += searched("sparse 3", {0.004: [0.5, 0.5]}, [0.08, 0.08, 0.08])
    return tabulate(tmp_path_factory.mktemp("results") / "s", cells)


def test_arms_are_reported_on_the_reported_seeds_alone(results: Path):
    none, sparse = read_table(results, "arms").to_dicts()
    assert (none["axis_lr"], none["selection"], none["agreement"]) == (0.004, "on other seeds", "3 of 3 seeds")
    assert (none["n"], none["missing"], none["fvu"]) == (3, 0, pytest.approx(0.12))
    assert (sparse["selection"], sparse["n"], sparse["fvu"]) == ("not tuned", 3, pytest.approx(0.08))


def test_tuning_table_is_of_the_tuning_seeds(results: Path):
    table = read_table(results, "tuning").to_dicts()
    none = [row for row in table if row["arm"] == "none"]
    assert [row["fvu"] for row in none] == pytest.approx([0.3, 0.1, 0.2])
    assert [(row["n"], row["lost"], row["seeds_reported"]) for row in none] == [(2, 0, 0), (2, 0, 3), (2, 0, 0)]
    assert [row["chosen"] for row in none] == [False, True, False]
    assert table[-1]["fvu"] == pytest.approx(0.08)  # no search there: the seeds that it is reported on


def points(figure: Figure) -> list[Any]:
    (ax,) = [ax for part in figure.subfigs for ax in part.axes]
    return [line for line in ax.lines if line.get_marker() in ("o", "s") and line.get_markerfacecolor() != "none"]


def test_tuning_figure_shows_the_tuning_seeds(results: Path):
    with house_style():
        drawn = points(tuning.draw(load_view(results)))
    heights = sorted(float(line.get_ydata()[0]) for line in drawn)
    assert heights == pytest.approx([0.08] * 3 + [0.1] * 2 + [0.2] * 2 + [0.3] * 2)


def test_tuning_line_runs_from_the_lowest_to_the_highest_value(tmp_path: Path):
    added = {0.004: [0.1, 0.1], 0.016: [0.2, 0.2], 0.001: [0.3, 0.3]}  # the search went below its list: comes last
    axes = {"layers": ["none", "sparse 3"], "lr": list(added)}
    cells = searched("none", added, [0.11]) + searched("sparse 3", added, [0.08])
    with house_style():
        figure = tuning.draw(load_view(tabulate(tmp_path, cells, seeds=1, axes=axes)))
    lines = [
        line for part in figure.subfigs for ax in part.axes for line in ax.lines if line.get_linestyle() == "-"
    ]
    assert [list(line.get_xdata()) for line in lines if len(line.get_xdata()) > 1] == [[0.001, 0.004, 0.016]] * 2


def warned(view: View) -> list[str]:
    """The warnings after the one that two tuning seeds are few, which every study here has."""
    few, *others = warnings(view)
    assert few.startswith("Tuned values were chosen on 2 seeds")
    return others


def test_facts_and_warnings(results: Path):
    view = load_view(results)
    assert facts(view).endswith("2 arms, 3 seeds, lr tuned inside each arm on 2 other seeds")
    assert warned(view) == []


def test_one_reported_seed_did_not_choose(tmp_path: Path):
    view = load_view(tabulate(tmp_path, searched("none", SEARCH, [0.11]), seeds=1))
    assert warnings(view)[:1] == ["One seed: there are no intervals, a difference may be luck."]


def test_lost_tuning_cells_edges_and_missing_seeds_are_warned_of(tmp_path: Path):
    search = {0.001: [0.3, 0.3], 0.004: [0.2, 0.2], 0.016: [0.1, 0.1]}
    lost = {0.001: [0.3, None], 0.004: [0.1, 0.1], 0.016: [0.2, 0.2]}
    cells = searched("none", search, []) + searched("sparse 3", lost, [0.1, 0.1, 0.1])
    assert warned(load_view(tabulate(tmp_path, cells))) == [
        "sparse 3, lr 0.001, tuning seed 11: failed (out of memory).",
        "none: reported on 0 of 3 seeds.",
        "sparse 3, lr 0.001: a result at 1 of 2 seeds only, so it was not compared with its other settings.",
        "none: best at lr 0.016 (lr highest of its list); a better value may lie beyond.",
    ]
    none, sparse = read_table(tmp_path, "arms").to_dicts()
    assert (none["axis_lr"], none["n"], none["missing"]) == (0.016, 0, 3)
    assert (sparse["n"], sparse["failed"]) == (3, 0)


def test_a_seed_of_neither_list_is_refused(tmp_path: Path):
    cells = [*searched("none", SEARCH, [0.1]), cell_record({"layers": "none"}, 7, 0.1, {"lr": 0.004})]
    with pytest.raises(UserError, match=r"seed: expected one of \[0, 10, 11\]"):
        tabulate(tmp_path, cells, seeds=1)
