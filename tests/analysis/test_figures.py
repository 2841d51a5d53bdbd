"""Figures: deterministic files, and what a reader must find in them, for every shape of study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from harness.analysis import figures
from harness.analysis.figures import make_figures
from harness.analysis.plots import arms, curves, effects, tradeoff, tuning
from harness.analysis.plots.style import HIGHER, LOWER, house_style, page, save
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from harness.errors import UserError
from tests.analysis.synthetic_results import write_grid

Fvu = Callable[[dict[str, Any], int], float | None]
EIGHT = {"k": [2**i for i in range(8)]}
TWO = {"layers": ["none", "sparse 3"]}


def fvu(levels: dict[str, Any], seed: int) -> float:
    return 0.1 + 0.001 * seed + 0.0001 * levels.get("k", 0) + levels.get("decay", 0) / 100


SHAPES: dict[str, tuple[dict[str, list[Any]], int, Fvu, tuple[str, ...]]] = {
    "nothing but a tuned axis": ({"lr": [0.001, 0.01]}, 2, fvu, ("lr",)),
    "eight levels, one seed": (EIGHT, 1, fvu, ()),
    "two tuned axes": ({**TWO, "lr": [0.001, 0.01], "decay": [0.1, 0.2]}, 2, fvu, ("lr", "decay")),
    "a tuned axis of words": ({**TWO, "optimizer": ["adam", "muon"]}, 2, fvu, ("optimizer",)),
    "five combinations": ({"nested": [True, False], "batch": [2**i for i in range(5)]}, 2, fvu, ()),
    "one arm lost": (TWO, 2, lambda levels, seed: 0.1 if levels["layers"] == "none" else None, ()),
    "all lost": (TWO, 2, lambda levels, seed: None, ()),
}


def axes_of(figure: Figure) -> list[Any]:
    """The axes that hold data, in drawing order."""
    return [ax for part in figure.subfigs for ax in part.axes if ax.get_visible()]


def row_labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in axes_of(figure)[0].get_yticklabels()]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_study_can_be_drawn(shape: str, tmp_path: Path):
    axes, seeds, result, tuned = SHAPES[shape]
    results = write_grid(tmp_path / "s", axes, seeds, result, tuned)
    make_tables(results)
    view = load_view(results)
    with house_style():
        drawn = {name: draw(view) for name, draw in figures.FIGURES.items()}
        for figure in drawn.values():
            if figure is not None:
                figure.draw_without_rendering()
    assert drawn["arms"] is not None
    assert (drawn["tuning"] is not None) == bool(tuned)
    assert (drawn["curves"] is None) == (shape == "all lost")


def test_files_are_written_in_both_formats(depth: Path):
    written = {path.name for path in (depth / "figures").iterdir()}
    not_asked = {name for name in figures.FIGURES if name.startswith("interpretability")}
    # no features, no k, no numbers
    drawn = set(figures.FIGURES) - {"features", "feature_effects", "by_k", "dose"} - not_asked
    assert written == {f"{name}{suffix}" for name in drawn for suffix in (".png", ".svg")}
    png = (depth / "figures" / "arms.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 1800  # nine inches at 200 dpi
    assert b"<dc:date>" not in (depth / "figures" / "arms.svg").read_bytes()


def test_figures_have_the_same_bytes_each_time(tmp_path: Path, depth: Path):
    with house_style():
        again = save(effects.draw(load_view(depth)), tmp_path / "effects")
    for path in again:
        assert path.read_bytes() == (depth / "figures" / path.name).read_bytes(), path.name


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path):
    before = dict(mpl.rcParams)
    with house_style():
        figure, _ = page("title", "note", 1.0)
        save(figure, tmp_path / "empty")
    assert dict(mpl.rcParams) == before


def test_a_figure_that_no_longer_applies_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = write_grid(tmp_path / "s", TWO, 1, fvu)
    make_tables(results)
    (results / "figures").mkdir()
    (results / "figures" / "tuning.png").write_bytes(b"old")
    monkeypatch.setattr(figures, "FIGURES", {"tuning": tuning.draw})
    assert make_figures(results) == []
    assert not (results / "figures" / "tuning.png").exists()


def test_figures_need_tables(tmp_path: Path):
    results = write_grid(tmp_path / "s", TWO, 1, fvu)
    with pytest.raises(UserError, match=r"no tables/.*\.parquet"):
        make_figures(results)


def test_arms_show_lost_seeds_and_stay_in_groups(depth: Path):
    with house_style():
        labels = row_labels(arms.draw(load_view(depth)))
    assert labels[:4] == ["none", "penalty 0, adam", "penalty 0, muon", "dense 2-2"]
    assert [label for label in labels if "n = " in label] == ["penalty 0.1, adam (n = 2)"]


def test_an_arm_without_result_says_so(tmp_path: Path):
    axes, seeds, result, _ = SHAPES["one arm lost"]
    results = write_grid(tmp_path / "s", axes, seeds, result)
    make_tables(results)
    with house_style():
        figure = arms.draw(load_view(results))
    assert row_labels(figure)[1] == "sparse 3 (n = 0)"
    assert "no result" in [text.get_text() for text in axes_of(figure)[0].texts]


def test_effects_are_coloured_by_their_verdict(depth: Path):
    with house_style():
        figure = effects.draw(load_view(depth))
    colours = {}
    for line in axes_of(figure)[0].lines:
        if line.get_marker() in ("o", "s"):
            colours[row_labels(figure)[int(line.get_ydata()[0])]] = line.get_markerfacecolor()
    assert colours["sparse 3"] == LOWER
    assert colours["dense_encoder 2 (penalty 0, adam)"] == HIGHER
    assert colours["dense 2-2, penalty 0.1"] == "white"  # undecided


def test_curves_have_a_panel_for_each_combination_that_exists(depth: Path):
    with house_style():
        panels = axes_of(curves.draw(load_view(depth)))
    titles = [ax.get_title(loc="left") for ax in panels if ax.get_title(loc="left")]
    assert titles == ["penalty 0, adam", "penalty 0, muon", "penalty 0.1, adam", "penalty 0.1, muon"]
    assert [len(ax.lines) for ax in panels[:4]] == [5, 2, 3, 1]


def test_tuning_marks_one_setting_an_arm_and_lost_seeds(depth: Path):
    with house_style():
        panels = axes_of(tuning.draw(load_view(depth)))
    rings = [line for ax in panels for line in ax.lines if line.get_markerfacecolor() == "none"]
    crosses = [line for ax in panels for line in ax.lines if line.get_marker() == "x"]
    assert len(rings) == 11
    assert sorted(line.get_xdata()[0] for line in crosses) == [0.001, 0.004, 0.016, 0.016]


def test_tradeoff_shows_every_arm(depth: Path):
    with house_style():
        (ax,) = axes_of(tradeoff.draw(load_view(depth)))
    points = [line for line in ax.lines if line.get_marker() != "None"]
    assert len(points) == 11
