"""The figure of normalised MSE against k, and the published figures beside it."""

import json
from pathlib import Path

import pytest

from harness.analysis.figures import make_figures
from harness.analysis.plots import by_k
from harness.analysis.plots.style import house_style
from harness.analysis.report import make_report
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import write_grid
from tests.analysis.test_figures import axes_of

AXES = {"layers": ["none", "dense 2-2"], "k": [64, 128, 256]}
PUBLISHED = {
    "title": "the original",
    "note": "Scaled down: a width of 128 rather than 768.",
    "nmse": {"none": {"64": 0.192, "256": 0.104}, "2-4-4-2": {"128": 0.1}},
}


def fvu(levels, seed):
    return (0.2 if levels["layers"] == "none" else 0.15) * (64 / levels["k"]) ** 0.4 + 0.001 * seed


def view(folder: Path, axes=AXES, published=None, result=fvu):
    results = write_grid(folder / "s", axes, 2, result)
    if published:
        path = results / "study.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"published": published}))
    make_tables(results)
    return load_view(results)


def lines_of(ax) -> dict[tuple, list]:
    return {tuple(line.get_xdata()): list(line.get_ydata()) for line in ax.lines if line.get_marker() != "None"}


def test_each_arm_is_a_line_over_k(tmp_path):
    with house_style():
        (ax,) = axes_of(by_k.draw(view(tmp_path)))
    drawn = [line for line in ax.lines if line.get_marker() != "None"]
    assert [list(line.get_xdata()) for line in drawn] == [[64, 128, 256]] * 2
    for line, layers in zip(drawn, AXES["layers"], strict=True):
        means = [1.1 * (fvu({"layers": layers, "k": k}, 0) + 0.0005) for k in AXES["k"]]
        assert list(line.get_ydata()) == pytest.approx(means)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["64", "128", "256"]


def test_published_figures_have_a_panel_of_their_own_with_what_differs(tmp_path):
    shown = view(tmp_path, published=PUBLISHED)
    with house_style():
        figure = by_k.draw(shown)
    ours, theirs = axes_of(figure)
    assert theirs.get_title(loc="left") == "the original"
    assert [list(line.get_ydata()) for line in theirs.lines] == [[0.192, 0.104], [0.1]]
    same, new = theirs.lines  # an arm of the study has its colour, another one of its own
    colours = [line.get_color() for line in ours.lines if line.get_marker() != "None"]
    assert same.get_color() == colours[0]
    assert new.get_color() not in colours
    head = " ".join(text.get_text() for part in figure.subfigs for text in part.texts).replace("\n", " ")
    assert PUBLISHED["note"] in head
    results = tmp_path / "s"
    make_figures(results)
    page = make_report(results).read_text()
    assert f"Beside it: the original. {PUBLISHED['note']}" in page


def test_there_is_none_where_k_is_no_axis_or_nothing_has_a_result(tmp_path):
    assert by_k.draw(view(tmp_path / "a", {"layers": ["none", "sparse 3"]}, result=lambda *_: 0.1)) is None
    assert by_k.draw(view(tmp_path / "b", result=lambda *_: None)) is None
