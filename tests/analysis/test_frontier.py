"""The frontier table: which points dominate which beyond doubt, on which seeds, and how they are drawn."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.comparability.frontier import place_all
from harness.analysis.comparability.planes import DOMINATED, ON, PLANES, UNSURE, front
from harness.analysis.comparability.sentences import sentences
from harness.analysis.plots import frontier
from harness.analysis.plots.style import house_style
from harness.analysis.results.files import read_table
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import cell_record, study_record, write
from tests.analysis.test_figures import axes_of

SPREAD = (-0.001, 0.0, 0.001)
Points = dict[str, dict[float, tuple[float, float]]]  # arm -> lr -> FVU and share of dead latents
POINTS: Points = {
    "none": {0.008: (0.110, 0.10), 0.016: (0.100, 0.30)},
    "dense 2-2": {0.008: (0.130, 0.35), 0.016: (0.101, 0.302)},
    "sparse 3": {0.008: (0.090, 0.20), 0.016: (0.140, 0.05)},
}


def tabulate(
    folder: Path, points: Points, seeds: int = 3, flops: dict[str, int] | None = None, **study: Any
) -> Path:
    cells = [
        cell_record(
            {"layers": layers},
            seed,
            fvu + SPREAD[seed],
            {"lr": lr},
            dead=dead + SPREAD[seed],
            flops_per_token=(flops or {}).get(layers, 1000),
        )
        for layers, settings in points.items()
        for lr, (fvu, dead) in settings.items()
        for seed in range(seeds)
    ]
    axes: dict[str, list[Any]] = {"layers": list(points), "lr": sorted({lr for s in points.values() for lr in s})}
    write(folder, study_record("s", axes, list(range(seeds)), cells=len(cells), **study), cells, [])
    make_tables(folder)
    return folder


def rows_of(results: Path) -> dict[tuple[str, float], dict[str, Any]]:
    return {(row["arm"], row["axis_lr"]): row for row in read_table(results, "frontier").to_dicts()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tabulate(tmp_path_factory.mktemp("results") / "s", POINTS)


def test_points_are_on_the_frontier_dominated_or_not_separable(results: Path):
    rows = rows_of(results)
    assert {key: row["dead_place"] for key, row in rows.items()} == {
        ("none", 0.008): ON,
        ("none", 0.016): DOMINATED,  # sparse 3 at 0.008 is better in both
        ("dense 2-2", 0.008): DOMINATED,
        ("dense 2-2", 0.016): DOMINATED,
        ("sparse 3", 0.008): ON,
        ("sparse 3", 0.016): ON,
    }
    assert rows["dense 2-2", 0.008]["dead_dominated_by"] == "sparse 3 at lr 0.008"  # the lowest FVU of the four
    assert rows["dense 2-2", 0.008]["dead_dominating"] == 4
    assert rows["dense 2-2", 0.016]["dead_dominating"] == 1  # none at 0.016 has better means, not beyond doubt
    assert [row["chosen"] for row in rows.values()] == [False, True, False, True, True, False]


def test_better_means_alone_do_not_dominate(tmp_path: Path):
    close = {"none": {0.008: (0.1000, 0.3000)}, "dense 2-2": {0.008: (0.1005, 0.3005)}}
    assert rows_of(tabulate(tmp_path / "s", close))["dense 2-2", 0.008]["dead_place"] == UNSURE
    far = tabulate(tmp_path / "one", POINTS, seeds=1)  # no intervals, so no doubt is beyond
    assert {row["dead_place"] for row in rows_of(far).values()} == {ON, UNSURE}


def test_a_difference_that_does_not_matter_to_the_study_saves_no_point(tmp_path: Path):
    points = {"none": {0.008: (0.100, 0.0110)}, "sparse 3": {0.008: (0.080, 0.0105)}}
    strict = rows_of(tabulate(tmp_path / "a", points))
    assert strict["none", 0.008]["dead_place"] == UNSURE  # intervals of dead latents overlap
    within = rows_of(tabulate(tmp_path / "b", points, indifference={"dead": 2.0}))
    assert within["none", 0.008]["dead_dominated_by"] == "sparse 3 at lr 0.008"
    assert within["sparse 3", 0.008]["dead_place"] == ON


def test_flops_and_l0_are_what_the_recipe_fixes(tmp_path: Path):
    rows = rows_of(tabulate(tmp_path / "s", POINTS, flops={"sparse 3": 5000}))
    assert rows["none", 0.016]["training_flops"] == 1000 * 1_048_576
    assert rows["none", 0.016]["flops_place"] == ON  # sparse 3 is better and dearer
    assert rows["dense 2-2", 0.008]["flops_dominated_by"] == "none at lr 0.016"
    assert rows["none", 0.016]["l0_dominated_by"] == "sparse 3 at lr 0.008"  # all have an L0 of 16


def test_a_point_without_a_result_has_no_place(tmp_path: Path):
    folder = tmp_path / "s"
    cells = [cell_record({"layers": "none"}, 0, fvu, {"lr": lr}) for lr, fvu in ((0.008, 0.1), (0.016, None))]
    axes: dict[str, list[Any]] = {"layers": ["none"], "lr": [0.008, 0.016]}
    write(folder, study_record("s", axes, [0], cells=2), cells, [])
    make_tables(folder)
    assert [row["dead_place"] for row in rows_of(folder).values()] == [ON, None]


def test_sentences_name_the_frontier_and_arms_that_are_dominated_everywhere(results: Path):
    view = load_view(results)
    on, dominated = [sentence for sentence in sentences(view) if sentence.table == "frontier"]
    assert on.text.startswith(
        "In the means no setting of any arm has a lower FVU and fewer dead latents at no higher L0 than "
    )
    assert (
        dominated.text
        == "At every setting dominated in FVU and dead latents: “dense 2-2”, by sparse 3 at lr 0.008."
    )
    assert dominated.row is not None
    assert view.tables["frontier"][dominated.row - 1]["arm"] == "dense 2-2"


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.sampled_from([0.0, 0.1, 0.2, 0.3])), min_size=1),
)
def test_every_point_off_the_frontier_has_a_better_one_on_it(points: list[tuple[float, float]]):
    rows = [
        {"fvu": f, "fvu_low": f - 0.01, "fvu_high": f + 0.01, "dead_fraction": d, "l0": 16.0, "arm": str(number)}
        | {"dead_fraction_low": d - 0.01, "dead_fraction_high": d + 0.01}
        for number, (f, d) in enumerate(points)
    ]
    place_all(rows, PLANES[0], lambda row: row["arm"], {})
    on = front(rows, PLANES[0])
    assert on
    for row in rows:
        assert (row in on) != any(
            o["fvu"] <= row["fvu"]
            and o["dead_fraction"] <= row["dead_fraction"]
            and (o["fvu"], o["dead_fraction"]) != (row["fvu"], row["dead_fraction"])
            for o in on
        )


def test_the_figure_has_every_point_and_shows_dominated_ones_hollow(results: Path):
    view = load_view(results)
    with house_style():
        figure = frontier.draw(view)
        assert figure is not None
        (ax,) = axes_of(figure)  # L0 and FLOPs are equal everywhere
    drawn = [line for line in ax.lines if line.get_marker() not in ("None", "", None)]
    assert len(drawn) == 6
    hollow = [float(line.get_ydata()[0]) for line in drawn if line.get_mfc() == "white"]
    assert sorted(hollow) == pytest.approx(
        sorted([POINTS["none"][0.016][0], *(f for f, _ in POINTS["dense 2-2"].values())])
    )


def test_no_level_line_runs_through_a_name(results: Path):
    with house_style():
        figure = frontier.draw(load_view(results))
        assert figure is not None
        (ax,) = axes_of(figure)
        figure.draw_without_rendering()
        names = [text.get_window_extent() for text in ax.texts]
        lines = [
            ax.transData.transform(line.get_path().vertices) for line in ax.lines if len(line.get_xdata()) > 1
        ]
    level = [(one, two) for line in lines for one, two in pairwise(line) if abs(one[1] - two[1]) < 1e-6]
    assert names
    assert len(level) > len(names)
    assert not [
        (name, one, two)
        for name in names
        for one, two in level
        if name.y0 < one[1] < name.y1 and min(one[0], two[0]) < name.x1 and max(one[0], two[0]) > name.x0
    ]


def test_flops_have_a_panel_where_they_differ(tmp_path: Path):
    with house_style():
        figure = frontier.draw(load_view(tabulate(tmp_path / "s", POINTS, flops={"sparse 3": 5000})))
        assert figure is not None
        assert [ax.get_xlabel() for ax in axes_of(figure)][1:] == ["FLOPs of training, all tokens"]
