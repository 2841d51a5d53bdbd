"""The page and the terminal summary: true sentences, warnings, nothing fetched from elsewhere."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.activations.massive import MEASURED
from harness.analysis.report import make_report
from harness.analysis.sentences.warnings import warnings
from harness.analysis.summary import summary
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from harness.errors import UserError
from tests.analysis.synthetic_results import cell_record, study_record, write, write_grid

TWO = {"layers": ["none", "sparse 3"]}


class Page(HTMLParser):
    """Text, tags and attributes of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(depth: Path) -> Page:
    return Page(make_report(depth))


def small_report(folder: Path, cells: list[dict[str, Any]], **study: Any) -> Page:
    """The page of a small study, with an empty picture for its figures."""
    seeds = sorted({cell["seed"] for cell in cells})
    write(folder, study_record(folder.name, TWO, seeds, cells=len(cells), **study), cells, [])
    make_tables(folder)
    (folder / "figures").mkdir()
    (folder / "figures" / "arms.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    return Page(make_report(folder))


def test_page_is_self_contained(page: Page):
    images = [link for link in page.links if link.startswith("data:image/")]
    assert len(images) == 7
    assert all(link.startswith("#") for link in page.links if link not in images)
    assert page.tags.count("script") == 1
    assert "link" not in page.tags


def test_finding_has_numbers_interval_and_verdict(tmp_path: Path):
    cells = [cell_record({"layers": "none"}, seed, 0.1, dead=0.02) for seed in range(3)]
    cells += [cell_record({"layers": "sparse 3"}, seed, 0.11 + 0.001 * seed, dead=0.05) for seed in range(3)]
    page = small_report(tmp_path / "s", cells)
    # logarithms of 1.10, 1.11, 1.12: s = 0.00901; the reference, without spread, is taken to have half of it:
    # t(4) · s · sqrt(1.25 / 3) = 0.01615. Deaths: whole numbers of 1,024 latents have a variance of 1/12
    sentence = (
        "sparse 3 instead of none: FVU +11.0 % [9.2, 12.8], higher; dead latents +3.0 points [2.9, 3.1], higher."
    )
    assert sentence in page.text


def test_a_difference_within_noise_is_undecided(tmp_path: Path):
    cells = [cell_record({"layers": "none"}, seed, 0.1) for seed in range(3)]
    cells += [cell_record({"layers": "sparse 3"}, seed, 0.1 + 0.01 * (seed - 1)) for seed in range(3)]
    page = small_report(tmp_path / "s", cells)
    assert "FVU −0.3 % [−16.7, 19.3], undecided (over 1,000 seeds in each arm would settle it)" in page.text


def test_marginal_findings_name_their_pairs_and_lost_seeds(page: Page):
    assert "sparse 3 instead of none, mean over 2 pairs of arms: FVU −19.9 %" in page.text
    assert "penalty 0.1 instead of 0 (dense 2-2, adam): FVU −6.3 %" in page.text
    assert "penalty 0.1 instead of 0, mean over 3 pairs of arms, 2 seeds against 3" in page.text


def test_warnings_name_lost_cells_and_edges(page: Page):
    assert (
        "dense 2-4-4-2, penalty 0, adam, lr 0.016, seed 1: diverged (loss is not finite at step 212)." in page.text
    )
    assert "dense_encoder 2, penalty 0.1, adam: reported on 2 of 3 seeds." in page.text
    assert "none, penalty 0, muon: best at lr 0.02 (lr highest of its list)" in page.text
    assert "none, penalty 0, adam: best at" not in page.text


def test_page_names_selection_definitions_and_provenance(page: Page):
    for words in (
        "over the other seeds",
        "did not fire on the first 32,768 held-out tokens",
        "Learning curves against training tokens; held-out ones on 2,048 held-out tokens.",
        "Share of the latents that did not fire on the last 32,768 training tokens",
        "Final held-out figures are of 32,768 tokens that no cell trained on. Points of learning curves, "
        "and the tokens to reach an FVU, are of 2,048 of them.",
        "transformer.h.2",
        "9c41e07ab2d3",
        "2.13.0",
    ):
        assert words in page.text


def test_text_of_the_study_is_escaped(tmp_path: Path):
    cells = [cell_record({"layers": "none"}, 0, 0.1)]
    question = "<script>alert(1)</script> & more?"
    page = small_report(tmp_path / "s", cells, question=question)
    assert page.tags.count("script") == 1  # the page's own
    assert question in page.text


def test_one_seed_and_disagreeing_folds_are_warned_of(tmp_path: Path):
    scores = {0.001: [0.1, 0.1, 0.9], 0.01: [0.2, 0.2, 0.2]}
    cells = [
        cell_record({}, seed, fvu, {"lr": lr}) for lr, column in scores.items() for seed, fvu in enumerate(column)
    ]
    axes = {"lr": list(scores)}
    for seeds, words in (([0, 1, 2], "that of 2 of 3 seeds"), ([0, 1], "Only 2 seeds"), ([0], "One seed")):
        folder = tmp_path / str(len(seeds))
        used = [cell for cell in cells if cell["seed"] in seeds]
        write(folder, study_record("s", axes, seeds, cells=len(used)), used, [])
        make_tables(folder)
        assert any(words in warning for warning in warnings(load_view(folder))), words


def test_massive_activations_are_warned_of(tmp_path: Path):
    measured = dict.fromkeys(MEASURED, 0.0) | {"dtype": "float16", "massive_dimensions": [7]}
    source = {"name": "s", "measured": measured | {"massive_dimension_share": 0.97}}
    study = study_record("s", TWO, [0], cells=1, source=source)
    write(tmp_path / "s", study, [cell_record({"layers": "none"}, 0, 0.1)], [])
    make_tables(tmp_path / "s")
    assert warnings(load_view(tmp_path / "s"))[0].startswith(
        "Massive activations: 1 of the dimensions (7) has 97 %"
    )


def test_a_design_with_more_cells_than_results_is_warned_of(tmp_path: Path):
    write(tmp_path / "s", study_record("s", TWO, [0], cells=2), [cell_record({"layers": "none"}, 0, 0.1)], [])
    make_tables(tmp_path / "s")
    assert "The design asks for 2 cells, the results list 1." in warnings(load_view(tmp_path / "s"))


def test_report_needs_figures(tmp_path: Path):
    results = write_grid(tmp_path / "s", TWO, 1, lambda levels, seed: 0.1)
    make_tables(results)
    with pytest.raises(UserError, match="no figures"):
        make_report(results)


def test_summary_lists_arms_findings_and_paths(depth: Path):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary(depth))
    text = console.export_text()
    assert "0.1003 [0.0983, 0.1023]" in text
    assert "sparse 3 instead of none, mean over 2 pairs of arms" in " ".join(text.split())
    assert str(depth / "figures" / "effects.png") in text
