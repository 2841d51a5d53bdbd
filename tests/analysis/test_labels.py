"""Different arms never read the same, in no table, figure or metric; lost ones stay where DVC shows them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.plots import arms, curves, effects, tuning
from harness.analysis.plots.style import house_style
from harness.analysis.report import make_report
from harness.analysis.results.files import read_table
from harness.analysis.results.records import StudyRecord
from harness.analysis.tables import make_tables
from harness.analysis.views.view import View, load_view
from tests.analysis.synthetic_results import cell_record, curve_records, study_record, write
from tests.analysis.test_figures import row_labels
from tests.analysis.test_many_levels import titles

TWINS = {"one": ["x", "x, y"], "two": ["y, z", "z"]}  # x + y, z; x + z; x, y + y, z; x, y + z


def tabulate(folder: Path, axes: dict[str, list[Any]], arms: list[dict[str, Any]], **study: Any) -> Path:
    cells = [
        cell_record(arm, seed, 0.1 + place / 100, {"lr": lr})
        for place, arm in enumerate(arms)
        for lr in (0.1, 0.2)
        for seed in range(2)
    ]
    points = [point for cell in cells for point in curve_records(cell, points=2)]
    axes = {**axes, "lr": [0.1, 0.2]}
    write(folder, study_record("s", axes, [0, 1], cells=len(cells), **study), cells, points)
    make_tables(folder)
    return folder


def metrics(results: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / "metrics.json").read_text())["arms"]
    return found


def test_arms_that_read_the_same_are_told_apart(tmp_path: Path):
    results = tabulate(tmp_path, TWINS, [{"one": one, "two": two} for one in TWINS["one"] for two in TWINS["two"]])
    expected = ['{"one": "x", "two": "y, z"}', "x, z", "x, y, y, z", '{"one": "x, y", "two": "z"}']
    assert list(metrics(results)) == read_table(results, "arms")["arm"].to_list() == expected
    assert len(set(read_table(results, "tuning")["arm"])) == 4
    view = load_view(results)
    with house_style():
        assert row_labels(arms.draw(view)) == ["x", "y, z", "z", "x, y", "y, z", "z"]  # two of them headings
        assert titles(curves.draw(view)) == titles(tuning.draw(view)) == ["y, z", "z"]


def test_numbers_that_nearly_agree_are_told_apart(tmp_path: Path):
    rates = [0.01, 0.010000001, 0.1 + 0.2]
    results = tabulate(tmp_path, {"warmup": rates}, [{"warmup": rate} for rate in rates])
    assert list(metrics(results)) == ["warmup 0.01", "warmup 0.010000001", "warmup 0.30000000000000004"]
    with house_style():
        labels = row_labels(effects.draw(load_view(results)))
    assert labels == ["warmup, against 0.01", "0.010000001", "0.30000000000000004"]


WORDS = st.sampled_from(["x", "y", "x, y", "y, z", "z", "one x", "two", "1", "two 1", '"x"', "none, x"])
LEVELS = st.lists(WORDS, min_size=1, max_size=4, unique=True) | st.lists(
    st.floats(0, 2, allow_subnormal=False), min_size=1, max_size=4, unique=True
)


@given(LEVELS, LEVELS)
def test_every_arm_has_a_name_of_its_own(ones: list[Any], twos: list[Any]):
    study = StudyRecord.model_validate(study_record("s", {"one": ones, "two": twos}, [0]))
    arms = [{"one": one} | ({} if two is None else {"two": two}) for one in ones for two in [None, *twos]]
    assert len(set(study.labels(arms))) == len(arms)
    for axis, levels in (("one", twos), ("two", ones)):  # what a pair of arms has in common
        other = "two" if axis == "one" else "one"
        assert len(set(study.labels([{other: level} for level in levels], without=axis))) == len(levels)


def diverged(folder: Path) -> View:
    cells = [cell_record({"layers": "none"}, seed, 0.1) for seed in range(3)]
    lost: dict[str, Any] = {"state": "diverged", "reason": "NaN"}
    cells += [cell_record({"layers": "sparse 3"}, seed, None, **lost) for seed in range(3)]
    write(folder, study_record("s", {"layers": ["none", "sparse 3"]}, [0, 1, 2], cells=6), cells, [])
    make_tables(folder)
    return load_view(folder)


def test_an_arm_that_diverged_everywhere_is_in_the_metrics_and_in_what_dvc_shows(tmp_path: Path):
    diverged(tmp_path)
    assert metrics(tmp_path)["sparse 3"] == {"n": 0, "diverged": 3}
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\nno_scm = true\n")
    (tmp_path / "dvc.yaml").write_text("metrics: [metrics.json]\n")
    show = [sys.executable, "-m", "dvc", "metrics", "show", "--json"]
    shown = subprocess.run(show, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert json.loads(shown)[""]["data"]["metrics.json"]["data"]["arms"]["sparse 3"] == {"n": 0, "diverged": 3}


def test_the_page_says_it(tmp_path: Path):
    diverged(tmp_path)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "arms.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    assert ">0<small>3 diverged</small></td>" in make_report(tmp_path).read_text()
