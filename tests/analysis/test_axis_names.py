"""Whatever an axis is called, the tables say the same."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.analysis.figures import FIGURES
from harness.analysis.plots.style import house_style
from harness.analysis.results.files import TABLES, read_table
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from harness.study.recipe import RECIPE_FIELDS
from tests.analysis.synthetic_results import write_grid

PLAIN = "remedy"
Tables = dict[str, list[dict[str, Any]]]


def write_study(folder: Path, axis: str) -> Path:
    """Two levels of `axis`, stacked, with a tuned learning rate and two seeds."""
    axes = {axis: ["sparse 3", "sparse 2"], "lr": [0.001, 0.002]}
    results = write_grid(
        folder, axes, 2, lambda cell, seed: 0.1 + len(cell[axis]) / 100 + seed / 50 + cell["lr"], ("lr",)
    )
    make_tables(results)
    return results


@cache
def tables(axis: str) -> Tables:
    with tempfile.TemporaryDirectory() as folder:
        results = write_study(Path(folder) / "s", axis)
        return {name: read_table(results, name).to_dicts() for name in TABLES}


def renamed(rows: list[dict[str, Any]], axis: str) -> list[dict[str, Any]]:
    """Rows as they are where the axis is called PLAIN; cells are named by what they consist of."""
    names = {f"axis_{axis}": f"axis_{PLAIN}"}
    return [
        {
            names.get(name, name): PLAIN if (name, value) == ("axis", axis) else value
            for name, value in row.items()
            if name != "cell"
        }
        for row in rows
    ]


# an axis of a recipe field's name has that field's values, so it is no axis of any levels
COLUMNS = sorted({column for rows in tables(PLAIN).values() for row in rows for column in row} - {*RECIPE_FIELDS})
OTHERS = [
    "axis",
    "mcc",
    "f1",
    "uniqueness",
    "layer",
    "unexplained",
    "retries",
    "items",
    "keys",
    "phase",
    "fvu low",
]


@settings(max_examples=20)
@given(st.sampled_from([*COLUMNS, *OTHERS]) | st.text("abfvu_ -", min_size=1, max_size=6))
@example("state")
@example("seed")
@example("fvu")
def test_any_axis_name_gives_the_same_numbers(axis: str):
    for name, rows in tables(PLAIN).items():
        assert renamed(tables(axis)[name], axis) == renamed(rows, PLAIN), name


def test_no_column_of_another_kind_begins_like_an_axis():
    assert {column for column in COLUMNS if column.startswith("axis_")} == {f"axis_{PLAIN}", "axis_lr"}


@pytest.mark.parametrize("axis", ["fvu", "arm"])
def test_figures_are_drawn_of_it(tmp_path: Path, axis: str):
    view = load_view(write_study(tmp_path / "s", axis))
    assert view.hues == ["sparse 3", "sparse 2"]
    with house_style():
        drawn = {name for name, draw in FIGURES.items() if draw(view) is not None}
    assert {"effects", "arms", "tradeoff", "curves", "tuning"} <= drawn
