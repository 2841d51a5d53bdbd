"""One row more in the table of metrics: it is shown everywhere, without another line of code."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from harness import metrics
from harness.analysis.figures import FIGURES
from harness.analysis.plots.style import house_style
from harness.analysis.report import make_report
from harness.analysis.results.files import read_table
from harness.analysis.sentences.findings import findings, headline
from harness.analysis.summary import summary
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from harness.commands.publishing import published
from harness.metrics import Metric
from harness.metrics.documentation import markdown_table
from harness.records.dashboard_note import mlflow_note, note
from harness.records.trial import attributes
from harness.study.spec import load_study
from tests.analysis.synthetic_results import cell_record, curve_records, study_record, write

ROOT = Path(__file__).parents[2]
AXES = {"layers": ["none", "sparse 3"], "lr": [0.001, 0.002]}
ROW = Metric(
    "probe_accuracy",
    "probe accuracy",
    axis="probe accuracy, %",
    definition="share of the tokens that a probe is right about",
    scale=100,
    unit=" %",
    digits=1,
    change="points",
    better="higher",
    bounds=(0, 1),
    places=("final", "layer", "heldout"),
)
NAME = ROW.name
VALUES = {"none": 0.5, "sparse 3": 0.75}


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch):
    """Appends a row to the table of metrics."""

    def append(row: Metric) -> None:
        monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, row))

    return append


def records(measured: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    cells, curves = [], []
    for level, value in VALUES.items():
        for lr in AXES["lr"]:
            for seed in range(3):
                cell = cell_record({"layers": level}, seed, 0.1 + 0.01 * seed, {"lr": lr}, dead=0.1)
                points = list(curve_records(cell, points=3))
                if measured:
                    cell["heldout"][NAME] = value + 0.01 * seed
                    for layer in cell["layers"]:
                        layer[NAME] = value
                    for point in points:
                        point[f"heldout_{NAME}"] = value
                cells.append(cell)
                curves += points
    return cells, curves


def results(folder: Path, measured: bool = True) -> Path:
    cells, curves = records(measured)
    write(folder, study_record(folder.name, AXES, [0, 1, 2], cells=len(cells)), cells, curves)
    make_tables(folder)
    return folder


def drawn(folder: Path, name: str) -> Figure:
    with house_style():
        figure = FIGURES[name](load_view(folder))
    assert figure is not None
    return figure


def labels(folder: Path, name: str) -> list[str]:
    """What stands at the axes of a figure."""
    figure = drawn(folder, name)
    return [text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel()) if text]


def page_of(folder: Path) -> str:
    """The report page, made with an empty figure."""
    (folder / "figures").mkdir()
    (folder / "figures" / "arms.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    return make_report(folder).read_text()


def in_terminal(folder: Path) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary(folder))
    return console.export_text()


def test_tables_have_it(tmp_path: Path, add):
    add(ROW)
    folder = results(tmp_path / "s")
    (arm,) = [row for row in read_table(folder, "arms").to_dicts() if row["axis_layers"] == "sparse 3"]
    assert arm[NAME] == pytest.approx(0.76)
    assert arm[f"{NAME}_low"] < arm[NAME] < arm[f"{NAME}_high"]
    for table in ("cells", "seeds"):
        assert read_table(folder, table)[NAME].null_count() == 0
    (effect,) = [row for row in read_table(folder, "effects").to_dicts() if row["kind"] == "pair"]
    assert effect[f"{NAME}_points"] == pytest.approx(25)
    assert effect[f"{NAME}_verdict"] == "higher"
    assert read_table(folder, "layers")[NAME].to_list() == [0.75] * 3
    assert read_table(folder, "curves")[f"heldout_{NAME}"].to_list() == [0.5] * 3 + [0.75] * 3
    assert json.loads((folder / "metrics.json").read_text())["arms"]["sparse 3"][NAME] == pytest.approx(0.76)


@pytest.mark.parametrize("group", ["reconstruction", "features"])
def test_figures_page_terminal_and_databases_have_it(tmp_path: Path, add, group: Any):
    add(replace(ROW, group=group))
    folder = results(tmp_path / "s")
    arms, effects = ("arms", "effects") if group == "reconstruction" else ("features", "feature_effects")
    assert "probe accuracy, %\n(higher is better)" in labels(folder, arms)
    changes = [text.replace("\n", " ") for text in labels(folder, effects)]
    assert "change of probe accuracy, points (higher is better)" in changes
    assert "probe accuracy, %" in labels(folder, "curves")

    (finding,) = findings(load_view(folder))["layers"]
    assert "probe accuracy +25.0 points [22.7, 27.3], higher" in finding.text
    assert "probe accuracy 51.0 % [49.2, 52.8]" in headline(load_view(folder))[0].text
    assert "probe accuracy, %" in in_terminal(folder)

    page = page_of(folder)
    assert page.count('<th scope="col">probe accuracy, %</th>') == 3  # of arms, twice, and of stacked layers
    assert "<dt>Probe accuracy</dt><dd>Share of the tokens that a probe is right about.</dd>" in page

    (_, arm) = published(folder).arms
    assert arm.figures[NAME] == pytest.approx(0.76)
    assert [point[f"heldout/{NAME}"] for point in arm.curve.values()] == [0.75] * 3


def test_notes_attributes_and_documentation_have_it(add):
    add(ROW)
    study = load_study(ROOT / "studies" / "smoke.yaml")
    line = "share of the tokens that a probe is right about; higher is better"
    assert f"- `{NAME}`: {line}" in note(study)
    assert f"- `final/{NAME}`, `final/layer_1_{NAME}`, `heldout/{NAME}`: {line}" in mlflow_note(study)
    assert attributes({"state": "complete", "heldout": {"fvu": 0.1, NAME: 0.5}})[NAME] == 0.5
    (row,) = [row for row in markdown_table().splitlines() if NAME in row]
    assert (
        "| probe accuracy | share of the tokens that a probe is right about | higher | 0 to 100 % | after training"
        in row
    )


def test_what_arms_are_not_compared_by_is_in_tables_and_on_the_page_alone(tmp_path: Path, add):
    add(replace(ROW, change=None))
    folder = results(tmp_path / "s")
    assert NAME in read_table(folder, "arms").columns
    assert not [column for column in read_table(folder, "effects").columns if column.startswith(NAME)]
    assert not [text for name in ("arms", "effects", "curves") for text in labels(folder, name) if "probe" in text]
    assert "probe" not in in_terminal(folder)
    assert '<th scope="col">probe accuracy, %</th>' in page_of(folder)
    assert NAME in published(folder).arms[0].figures


def test_cells_that_were_measured_before_it_was_there_have_no_value(tmp_path: Path, add):
    add(ROW)
    folder = results(tmp_path / "s", measured=False)
    assert read_table(folder, "cells")[NAME].null_count() == 12
    assert {row["n"] for row in read_table(folder, "arms").to_dicts()} == {3}
    texts = [text.get_text() for ax in drawn(folder, "arms").axes for text in ax.texts]
    assert texts.count("not measured") == 2
    assert "no result" not in texts
    assert "<dt>Probe accuracy</dt>" in page_of(folder)


def test_what_this_source_cannot_measure_is_nowhere(tmp_path: Path, add):
    add(replace(ROW, optional="where the language model is there"))
    folder = results(tmp_path / "s", measured=False)
    for name in ("cells", "arms", "seeds", "effects", "layers", "curves"):
        assert not [column for column in read_table(folder, name).columns if NAME in column], name
    assert not [text for name in ("arms", "effects", "curves") for text in labels(folder, name) if "probe" in text]
    assert "probe accuracy" not in page_of(folder).lower()


@pytest.mark.parametrize(("bounds", "ends"), [((0, 1), {"<"}), ((0, None), {"<", ">"})])
def test_no_axis_shows_values_that_a_metric_cannot_have(tmp_path: Path, add, bounds: Any, ends: set[str]):
    """Two seeds at 80 and 100 %: their interval is far wider than those of the other arms."""
    add(replace(ROW, bounds=bounds, places=("final",)))
    levels = {"none": (0.8, 1.0), "dense 2-2": (0.95, 0.96), "sparse 3": (0.94, 0.95)}
    cells = [cell_record({"layers": level}, seed, 0.1) for level in levels for seed in (0, 1)]
    for cell in cells:
        cell["heldout"][NAME] = levels[cell["arm"]["layers"]][cell["seed"]]
    write(tmp_path / "s", study_record("s", {"layers": [*levels]}, [0, 1], cells=6), cells, [])
    make_tables(tmp_path / "s")
    panel = drawn(tmp_path / "s", "arms").axes[2]
    assert panel.get_xlabel().startswith("probe accuracy")
    assert (panel.get_xlim()[1] < 103) == (bounds == (0, 1))
    # arrow heads say that an interval goes on where it could be seen
    assert {line.get_marker() for line in panel.lines} & {"<", ">"} == ends


def test_a_title_that_is_wider_than_the_page_goes_on_in_another_line(tmp_path: Path, monkeypatch):
    rows = [replace(ROW, name=f"m{number}", label=f"score of kind {number}") for number in range(4)]
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, *rows))
    figure = drawn(results(tmp_path / "s", measured=False), "arms")
    with house_style():
        figure.draw_without_rendering()
    for text in figure.subfigs[0].texts:
        assert text.get_window_extent().x1 <= figure.bbox.x1
    assert "score of kind 3 of every arm" in figure.subfigs[0].texts[0].get_text().replace("\n", " ")
