"""Axes of numbers against their numbers; named settings that differ in one number too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from harness.analysis.plots import dose, effects
from harness.analysis.plots.style import house_style, save
from harness.analysis.plots.verdicts import MARKS, mark_of
from harness.analysis.views.palette import PALETTE
from harness.analysis.views.series import series
from harness.analysis.views.view import View
from harness.metrics import FVU, MCC
from tests.analysis.pictures import faults, view_of
from tests.analysis.synthetic_results import cell_record, study_record, write, write_grid
from tests.analysis.test_figures import axes_of, row_labels
from tests.analysis.test_l0 import note

WEIGHTS = [0, 0.001, 0.01, 0.1, 1.0]
AXES = {"layers": ["none", "sparse 3"], "weight": WEIGHTS}


def fvu(levels: dict[str, Any], seed: int) -> float:
    base = 0.1 if levels["layers"] == "none" else 0.08
    return base * (1 - 0.05 * math.log10(1 + 1000 * (levels["weight"] or 0))) + 0.0002 * seed


def drawn(view: View) -> list[Axes]:
    with house_style():
        figure = dose.draw(view)
    assert figure is not None
    assert faults(figure) == []
    return axes_of(figure)


def points(ax: Axes, colour: str) -> list[tuple[float, float]]:
    found = [line for line in ax.lines if line.get_color() == colour and line.get_marker() != "None"]
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in found]


def test_a_line_for_each_combination_on_a_logarithmic_scale_with_zero_beside_it(tmp_path: Path):
    ax = drawn(view_of(write_grid(tmp_path / "s", AXES, 3, fvu)))[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "0.001", "0.01", "0.1", "1"]
    places = ax.get_xticks()
    assert list(places[1:]) == pytest.approx([-3, -2, -1, 0])
    assert places[0] < places[1] - 1  # farther away than a step
    for colour, layers in zip(PALETTE[:2], AXES["layers"], strict=True):
        means = [fvu({"layers": layers, "weight": weight}, 1) for weight in WEIGHTS]
        assert [y for _, y in points(ax, colour)] == pytest.approx(means)
    dotted = [line for line in ax.lines if line.get_linestyle() == ":" and len(line.get_xdata()) == 2]
    assert len([line for line in dotted if line.get_xdata()[0] != line.get_xdata()[1]]) == 2  # from 0 to the scale


@pytest.mark.parametrize(
    ("levels", "labels"),
    [
        ([None, 0.1, 1.0, 10.0], ["none", "0.1", "1", "10"]),
        (["off", 0.1, 1.0, 10.0], ["off", "0.1", "1", "10"]),  # texts in tables, since the kinds are mixed
        ([3, 1, 2], ["1", "2", "3"]),
        ([-1, 0, 1], ["-1", "0", "1"]),
    ],
)
def test_what_is_off_stands_left_of_the_numbers(tmp_path: Path, levels: list[Any], labels: list[str]):
    axes = {"layers": ["none", "sparse 3"], "weight": levels}
    result = view_of(
        write_grid(tmp_path / "s", axes, 2, lambda arm, seed: 0.1 + 0.01 * levels.index(arm["weight"]))
    )
    ax = drawn(result)[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == labels
    assert list(ax.get_xticks()) == sorted(ax.get_xticks())


def test_named_settings_that_differ_in_one_number_are_a_series(tmp_path: Path):
    settings = {
        "none": {},
        "a": {"penalty": 0.1},
        "b": {"penalty": 0.01},
        "c": {"penalty": 1.0, "k": 2},
        "d": {"k": 9},
    }
    cells = [cell_record({"remedy": name}, seed, 0.1 + 0.01 * seed) for name in settings for seed in range(2)]
    study = study_record("s", {"remedy": list(settings)}, [0, 1], settings={"remedy": settings}, cells=len(cells))
    study["recipe"]["penalty"] = 0.0
    view = view_of(write(tmp_path / "s", study, cells, []))
    (found,) = series(view)
    assert (found.name, found.numbers) == ("penalty", {"none": 0.0, "b": 0.01, "a": 0.1})
    assert drawn(view)[0].get_xlabel() == "penalty"
    with house_style():
        assert row_labels(effects.draw(view))[0] == "remedy, against none"  # words have their forest as well


def test_axes_of_numbers_leave_the_forest_to_words(tmp_path: Path):
    view = view_of(write_grid(tmp_path / "s", AXES, 3, fvu))
    with house_style():
        figure = effects.draw(view)
    assert [label for label in row_labels(figure) if "against" in label] == ["layers, against none"]
    assert "weight: see the figure of outcomes against it" in note(figure)


def test_two_levels_make_no_curve(tmp_path: Path):
    view = view_of(write_grid(tmp_path / "s", {**AXES, "weight": [0, 0.1]}, 2, fvu))
    with house_style():
        assert dose.draw(view) is None


def test_a_point_that_was_not_shown_to_differ_is_hollow(tmp_path: Path):
    def result(levels: dict[str, Any], seed: int) -> float:
        return {1: 0.1, 2: 0.1, 3: 0.2}[levels["k"]] + 0.001 * (seed if levels["k"] != 2 else (seed * 2) % 3)

    ax = drawn(view_of(write_grid(tmp_path / "s", {"k": [1, 2, 3]}, 3, result)))[0]
    faces = [line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"]
    assert faces == [PALETTE[0], "white", PALETTE[0]]


def test_many_combinations_stay_in_the_background(tmp_path: Path):
    axes = {"weight": WEIGHTS, "remedy": [f"remedy {letter}" for letter in "abcdefghijklmnop"]}
    view = view_of(write_grid(tmp_path / "s", axes, 2, lambda arm, seed: 0.1 + ord(arm["remedy"][-1]) / 1000))
    with house_style():
        figure = dose.draw(view)
    (ax, _) = axes_of(figure)
    assert len({line.get_color() for line in ax.lines if line.get_marker() != "None"}) == 7
    assert "all: tables/arms.csv" in note(figure)


@pytest.mark.parametrize(
    ("metric", "verdict", "name"),
    [
        (FVU, "lower", "better"),
        (FVU, "higher", "worse"),
        (MCC, "higher", "better"),
        (FVU, "equal within 2 %", "equal"),
        (FVU, "undecided", "undecided"),
        (FVU, "no interval", "undecided"),
        (FVU, "some other word", "undecided"),
        (FVU, None, "undecided"),
    ],
)
def test_verdicts_differ_in_colour_and_shape(metric: Any, verdict: str | None, name: str):
    assert mark_of(metric, verdict) is MARKS[name]
    shapes = {(mark.marker, mark.hollow) for mark in MARKS.values()}
    assert len(shapes) == len(MARKS)
    assert [mark for mark in MARKS.values() if mark.hollow] == [MARKS["undecided"]]


def test_it_has_the_same_bytes_each_time(tmp_path: Path):
    view = view_of(write_grid(tmp_path / "s", AXES, 3, fvu))
    written = []
    for name in ("one", "two"):
        with house_style():
            figure = dose.draw(view)
            assert figure is not None
            written.append([path.read_bytes() for path in save(figure, tmp_path / name)])
    assert written[0] == written[1]
