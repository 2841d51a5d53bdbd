"""Axes with more levels than there are colours to tell apart: sorted rows, a panel or a name for each level."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.analysis.plots import arms, curves, effects, tradeoff, tuning
from harness.analysis.plots.style import house_style
from harness.analysis.results.files import read_table
from harness.analysis.tables import make_tables
from harness.analysis.views.palette import PALETTE
from harness.analysis.views.view import View, load_view
from tests.analysis.synthetic_results import cell_record, curve_records, study_record, write, write_grid
from tests.analysis.test_figures import axes_of, row_labels

NAMES = ["none", "spread 0.01", "spread 0.1", "linear spread 0.1", "aux-k", "resampling", "k decay", "low lr"]
NAMES += ["tied init", "orthogonal init", "warm start", "two remedies"]
FVU = dict(
    zip(NAMES, [0.10, 0.09, 0.101, 0.1005, 0.08, 0.0801, 0.0995, 0.13, 0.12, 0.1195, 0.11, 0.085], strict=True)
)
SORTED = sorted(NAMES[1:], key=lambda name: FVU[name])


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    """Twelve named remedies, tuned over two learning rates; `low lr` over two of its own."""
    cells = []
    for name in NAMES:
        for lr in (0.0001, 0.0002) if name == "low lr" else (0.01, 0.02):
            for seed in range(3):
                fvu = FVU[name] * (1 + 0.001 * seed) * (1 if lr in (0.0001, 0.01) else 1.1)
                dead = 0.2 if name in ("none", "aux-k", "resampling") else 0.01 + FVU[name] / 10
                cells.append(cell_record({"remedy": name}, seed, fvu, {"lr": lr}, dead=dead * (1 + 0.02 * seed)))
    points = [point for cell in cells for point in curve_records(cell, points=3)]
    axes: dict[str, list[Any]] = {"remedy": NAMES, "lr": [0.01, 0.02, 0.0001, 0.0002]}
    folder = tmp_path_factory.mktemp("results") / "s"
    write(folder, study_record("s", axes, [0, 1, 2], cells=len(cells)), cells, points)
    make_tables(folder)
    return load_view(folder)


def titles(figure: Figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in axes_of(figure) if ax.get_title(loc="left")]


def test_rows_are_sorted_by_fvu_after_the_reference(view: View):
    with house_style():
        assert row_labels(arms.draw(view)) == ["none", *SORTED]
        assert row_labels(effects.draw(view)) == ["remedy, against none", *SORTED]


def test_numbers_and_few_words_keep_their_order(tmp_path: Path, depth: Path):
    levels = [2**i for i in range(9)]
    results = write_grid(tmp_path / "s", {"k": levels}, 2, lambda cell, seed: 0.1 / cell["k"] + 0.001 * seed)
    make_tables(results)
    with house_style():
        assert row_labels(arms.draw(load_view(results))) == [f"k {level}" for level in levels]
    assert load_view(depth).hues == list(load_view(depth).study.axes["layers"])


def test_every_level_has_a_panel_with_the_reference_in_it(view: View):
    with house_style():
        figure = curves.draw(view)
    assert titles(figure) == ["none", *SORTED]
    panel = next(ax for ax in axes_of(figure) if ax.get_title(loc="left") == "aux-k")
    assert len(panel.lines) == 12
    own = [line for line in panel.lines if line.get_color() == PALETTE[1]]
    reference = [line for line in panel.lines if line.get_color() == PALETTE[0]]
    assert (len(own), len(reference)) == (1, 1)
    assert own[0].get_linewidth() > reference[0].get_linewidth()


def test_tuning_panels_span_their_own_list(view: View):
    with house_style():
        figure = tuning.draw(view)
    panels = {ax.get_title(loc="left"): ax for ax in axes_of(figure)}
    assert [text.get_text() for text in panels["low lr"].get_xticklabels()] == ["0.0001", "0.0002"]
    assert panels["low lr"].get_xlim()[1] < 0.001
    lines = [line for line in panels["low lr"].lines if line.get_linestyle() == "-"]
    assert len(lines) == 1  # no other arm was searched over these values
    assert len([line for line in panels["aux-k"].lines if line.get_linestyle() == "-"]) == 11


def test_points_are_named_and_no_name_covers_another(view: View):
    with house_style():
        figure = tradeoff.draw(view)
        figure.draw_without_rendering()
        (ax,) = axes_of(figure)
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = {text.get_text(): text.get_window_extent(renderer) for text in ax.texts}
    assert set(boxes) == set(NAMES)
    assert not [pair for pair in combinations(boxes, 2) if boxes[pair[0]].overlaps(boxes[pair[1]])]
    assert all(ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1 for box in boxes.values())


def test_nine_panels_are_three_by_three(tmp_path: Path):
    axes = {"optimizer": [f"optimizer {letter}" for letter in "abcdefghi"]}
    results = write_grid(tmp_path / "s", axes, 1, lambda cell, seed: 0.1 + ord(cell["optimizer"][-1]) / 1000)
    make_tables(results)
    with house_style():
        figure = curves.draw(load_view(results))
    top = [ax.get_gridspec().ncols for ax in axes_of(figure)]
    assert set(top) == {3}


def test_a_word_that_two_axes_have_gets_its_axis_name(tmp_path: Path):
    axes = {"layers": ["none", "sparse 3"], "remedy": ["none", "aux-k"]}
    results = write_grid(tmp_path / "s", axes, 2, lambda cell, seed: 0.1 + 0.001 * seed)
    make_tables(results)
    assert read_table(results, "arms")["arm"].to_list()[:2] == ["layers none, remedy none", "layers none, aux-k"]
    with house_style():
        assert titles(curves.draw(load_view(results))) == ["remedy none", "aux-k"]
