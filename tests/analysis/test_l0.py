"""FVU at unequal L0: said wherever the two stand side by side, and nowhere else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.analysis.plots import arms, curves, effects
from harness.analysis.plots.style import house_style
from harness.analysis.report import make_report
from harness.analysis.results.files import read_table
from harness.analysis.sentences.findings import findings, headline
from harness.analysis.sentences.warnings import warnings
from harness.analysis.summary import summary
from harness.analysis.tables import make_tables
from harness.analysis.views.view import View, load_view
from tests.analysis.synthetic_results import cell_record, curve_records, study_record, write
from tests.analysis.test_figures import row_labels

WARNING = (
    "Held-out L0 differs by more than 1 % between compared arms, so their FVU is not compared at equal L0: "
    "batchtopk instead of topk: 16.63 against 16.00."
)


def tabulate(folder: Path, axis: str, l0: dict[Any, float], **study: Any) -> View:
    """A level of `axis` for each L0, in three seeds; the first one has FVU 0.1757, the others 0.1751."""
    cells = []
    for place, (level, mean) in enumerate(l0.items()):
        for seed in range(3):
            cell = cell_record({axis: level}, seed, 0.1751 if place else 0.1757)
            cell["heldout"]["l0"] = mean + 0.01 * (seed - 1)
            cells.append(cell)
    points = [point for cell in cells for point in curve_records(cell, points=2)]
    write(folder, study_record("s", {axis: list(l0)}, [0, 1, 2], cells=len(cells), **study), cells, points)
    make_tables(folder)
    return load_view(folder)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    return tabulate(tmp_path_factory.mktemp("s"), "sparsifier", {"topk": 16.0, "batchtopk": 16.63, "sorted": 16.1})


def test_arms_that_differ_by_more_than_one_percent_are_warned_of(view: View):
    assert [line for line in warnings(view) if "L0" in line] == [WARNING]


def test_every_sentence_with_its_fvu_says_it(view: View):
    apart, equal = (finding.text for finding in findings(view)["sparsifier"])
    assert "lower; L0 16.63 against 16.00; dead latents" in apart
    assert "L0" not in equal
    assert headline(view)[0].text.startswith(
        "Lowest held-out FVU: batchtopk: FVU 0.1751 [0.1751, 0.1751], L0 16.63, dead"
    )


def test_every_figure_with_its_fvu_says_it(view: View):
    with house_style():
        assert row_labels(arms.draw(view)) == ["topk", "batchtopk (L0 16.63)", "sorted"]
        assert row_labels(effects.draw(view))[1:] == ["batchtopk (L0 16.63 against 16.00)", "sorted"]
        for draw in (arms.draw, effects.draw):
            assert "not at equal L0 (16.00 to 16.63)" in note(draw(view))
        assert "FVU on 2,048 held-out tokens" in note(curves.draw(view))
        assert "on 32,768 held-out tokens" in note(arms.draw(view))


def note(figure: Any) -> str:
    return " ".join(figure.subfigs[0].texts[1].get_text().split())


def test_page_and_terminal_have_l0_beside_fvu(tmp_path: Path):
    view = tabulate(tmp_path / "s", "sparsifier", {"topk": 16.0, "batchtopk": 16.63}, curve_tokens=1024)
    (tmp_path / "s" / "figures").mkdir()
    (tmp_path / "s" / "figures" / "arms.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    page = make_report(tmp_path / "s").read_text()
    assert WARNING in page
    assert ">16.63<small>" in page
    assert "are of 1,024 of them" in page
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(summary(tmp_path / "s"))
    assert "0.1751 [0.1751, 0.1751]  16.63" in console.export_text()
    effect = read_table(tmp_path / "s", "effects").to_dicts()[0]
    assert (effect["l0_level"], effect["l0_reference"]) == (pytest.approx(16.63), pytest.approx(16))
    assert view.heldout_note.endswith("not at equal L0 (16.00 to 16.63)")


def test_another_k_is_no_surprise(tmp_path: Path):
    settings = {"size": {"small": {}, "large": {"k": 32}}}
    for axis, levels in (("k", (16, 32)), ("size", ("small", "large"))):
        view = tabulate(tmp_path / axis, axis, dict(zip(levels, (16.0, 32.0), strict=True)), settings=settings)
        assert not any("L0" in line for line in warnings(view))
        assert "L0" not in view.heldout_note


def test_a_curve_with_more_active_latents_than_in_the_end_is_dotted_there(tmp_path: Path):
    cell = cell_record({"k_start": 0}, 0, 0.1)
    points = list(curve_records(cell, points=4))
    points[0]["heldout_l0"], points[1]["heldout_l0"] = 64.0, 17.0
    write(tmp_path, study_record("s", {"k_start": [0]}, [0], cells=1), [cell], points)
    make_tables(tmp_path)
    with house_style():
        figure = curves.draw(load_view(tmp_path))
    lines = figure.subfigs[1].axes[0].lines
    assert [(line.get_linestyle(), len(line.get_xdata())) for line in lines] == [("-", 2), (":", 3)]
    assert note(figure).endswith("dotted: FVU with more active latents than in the end")
