"""Figures of studies of any size and with any names: readable, bounded, and honest about what they leave out."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from harness.analysis.plots import arms, effects, tradeoff
from harness.analysis.plots.lettering import distinct, escaped, shorten, width
from harness.analysis.plots.style import house_style
from harness.analysis.views.view import View
from tests.analysis.pictures import faults, pictures, view_of
from tests.analysis.synthetic_results import LARGE, write_large
from tests.analysis.test_figures import axes_of, row_labels
from tests.analysis.test_l0 import note

WORDS = [f"remedy {place} of many" for place in range(120)]
SIZES: dict[str, dict[str, list[Any]]] = {
    "three axes": LARGE,
    "one axis of words": {"remedy": WORDS},
    "two by sixty": {"layers": ["none", "sparse 3"], "k": [2 + 3 * place for place in range(60)]},
}


@dataclass(frozen=True)
class Drawn:
    """A study of 120 arms and its figures."""

    view: View
    figures: dict[str, Figure]


SHORT, *OTHERS = SIZES


@pytest.fixture(scope="module", params=[SHORT, *(pytest.param(name, marks=pytest.mark.chaos) for name in OTHERS)])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """Every figure of a study of each size, drawn once."""
    results = write_large(tmp_path_factory.mktemp("large") / "s", SIZES[request.param], seeds=2, points=2)
    view = view_of(results)
    return Drawn(view, pictures(view))


def test_figures_of_any_size_can_be_read(large: Drawn):
    assert {name: found for name, figure in large.figures.items() if (found := faults(figure))} == {}


@pytest.mark.parametrize("table", ["arms", "curves", "tuning"])
def test_what_a_figure_leaves_out_is_said_with_its_table(large: Drawn, table: str):
    assert f"tables/{table}.csv" in note(large.figures[table])


def test_the_baseline_is_in_every_figure(large: Drawn):
    baseline = large.view.baseline
    assert baseline is not None
    assert large.view.panel(baseline) in large.view.shown_panels
    assert baseline["arm"] in row_labels(large.figures["arms"])


def test_pairs_without_a_row_of_their_own_are_dots_on_their_mean(tmp_path: Path):
    axes = {"layers": ["none", "sparse 3"], "remedy": WORDS[:40]}
    view = view_of(write_large(tmp_path / "s", axes, 2, 1))
    with house_style():
        figure = effects.draw(view)
    row = row_labels(figure).index("sparse 3")
    dots = [dots for dots in axes_of(figure)[0].collections if len(dots.get_offsets()) == 40]
    assert [round(float(at.get_offsets()[0][1])) for at in dots] == [row]


def test_a_mean_over_contexts_that_differ_is_a_range_and_no_mean(tmp_path: Path):
    axes = {"layers": ["none", "sparse 3"], "remedy": WORDS[:3]}
    view = view_of(write_large(tmp_path / "s", axes, 2, 1))
    row = next(row for row in view.tables["effects"] if row["kind"] == "marginal")
    row |= {"fvu_contexts_differ": True, "fvu_contexts_low": -3.0, "fvu_contexts_high": 1.0}
    with house_style():
        figure = effects.draw(view)
    ax = axes_of(figure)[0]
    place = row_labels(figure).index("sparse 3")
    assert [list(line.get_xdata()) for line in ax.lines if list(line.get_ydata()) == [place] * 2] == [[-3.0, 1.0]]
    assert not [line for line in ax.lines if list(line.get_ydata()) == [place] and line.get_marker() != "None"]
    assert "differ: the effects in the row's pairs differ" in note(figure)


NASTY = {
    "价格": ["无", "$x_1$ for $10", "惩罚 0.1", "a\ttab", "日本語のとても長い名前" * 9],
    "long": ["x" * 300, "x" * 150 + "y" + "x" * 149, "short"],
}


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> View:
    references = {"高品質 $ SAE": {"package": "p", "latents": 64, "heldout": {"fvu": 0.5, "dead_fraction": 0.2}}}
    return view_of(
        write_large(tmp_path_factory.mktemp("nasty") / "s", NASTY, seeds=2, points=3, references=references)
    )


def test_names_of_any_kind_are_drawn_without_a_warning(nasty: View):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = pictures(nasty)
        assert {name: found for name, figure in drawn.items() if (found := faults(figure))} == {}
    assert {"arms", "curves", "effects", "tradeoff", "tuning"} <= set(drawn)


def test_names_stay_apart_and_the_note_says_what_was_done(nasty: View):
    levels = [level for axis in nasty.study.axes.values() for level in axis if isinstance(level, str)]
    assert len(set(levels)) == 8
    assert max(width(level) for level in levels) <= 40
    assert "long names are shortened" in nasty.names_note
    assert "$x_1$ for $10" in levels
    for row in nasty.arms:
        json.dumps(row, ensure_ascii=False).encode()


def test_letters_that_no_font_has_are_escaped():
    rare = "\U0010fffd"  # private use: no font has it
    assert escaped(f"a {rare} $b$\n") == "a \\U0010fffd $b$\\n"
    assert escaped("α − “x” ×") == "α − “x” ×"


def test_shortened_names_stay_apart():
    assert shorten("abcdefghij", 7) == "abc…hij"
    assert shorten("abc", 3) == "abc"
    assert distinct(["aaaaaaaaaXaaaaaaaaa", "aaaaaaaaaYaaaaaaaaa", "b"], 12) == [
        "aaaaaa…aaaaa",
        "aaaa…aaa (2)",
        "b",
    ]


def test_references_are_in_arms_and_tradeoff(nasty: View):
    with house_style():
        assert row_labels(arms.draw(nasty))[-1] == nasty.references[0][0]
        (ax,) = axes_of(tradeoff.draw(nasty))
    assert [line for line in ax.lines if line.get_marker() == "*"]
    (name,) = [text.get_text() for text in ax.texts if text.get_text().startswith(nasty.references[0][0])]
    assert name.endswith("(FVU 0.50, 20.0 % dead)")  # it lies outside of the arms' range
