"""The page as a document: its sections, tables, links and provenance; Markdown and LaTeX beside it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import report
from harness.analysis.page import sections
from harness.analysis.page.latex import escaped
from harness.analysis.page.sections import Section
from harness.analysis.report import make_report
from harness.analysis.sentences.answer import answer
from harness.analysis.sentences.sentence import Sentence, row_number
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from harness.errors import UserError
from tests.analysis.synthetic_results import cell_record, study_record, write, write_grid, write_large

MANY = {"remedy": [f"remedy {number}" for number in range(40)], "penalty": [0, 0.1, 1]}  # 120 arms, 840 cells
NASTY = "<b>a</b> | $x_1^2$ & 50 % #1 {~} \\n"


class Document(HTMLParser):
    """Ids, fragment links and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [str(given["href"])[1:]] if str(given.get("href", "")).startswith("#") else []

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def with_figure(results: Path) -> Path:
    """Tables, and an empty picture for the figures."""
    make_tables(results)
    (results / "figures").mkdir()
    (results / "figures" / "arms.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    return results


@pytest.fixture(scope="module")
def depth_page(depth: Path) -> str:
    return make_report(depth).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = with_figure(write_large(tmp_path_factory.mktemp("results") / "many", MANY))
    make_report(results)
    return results


def test_every_sentence_leads_to_its_row(depth: Path, depth_page: str):
    document = Document(depth_page)
    assert len(document.ids) == len(set(document.ids))
    assert set(document.links) <= set(document.ids)
    effects = load_view(depth).tables["effects"]
    row = next(
        row_number(effects, effect)
        for effect in effects
        if (effect["kind"], effect["level"], effect["holding"]) == ("pair", "0.1", "dense 2-2, adam")
    )
    said = next(
        line for line in depth_page.splitlines() if "penalty 0.1 instead of 0 (dense 2-2, adam): FVU" in line
    )
    assert f'href="#effects-{row}"' in said
    shown = next(line for line in depth_page.splitlines() if f'id="effects-{row}"' in line)
    assert "dense 2-2, adam" in shown
    csv = (depth / "tables" / "effects.csv").read_text().splitlines()[row]
    assert csv.startswith("penalty,0.1,0,pair")


def test_the_answer_says_for_each_axis_what_its_levels_do(depth: Path):
    said = [sentence.whole for sentence in answer(load_view(depth))]
    assert said[0].startswith("Lowest held-out FVU: ")
    assert next(line for line in said if line.startswith("FVU by penalty, against 0: "))
    layers = next(line for line in said if line.startswith("FVU by layers, against none: "))
    assert "lower with sparse 3 (" in layers
    assert re.search(r"lower with sparse 3 \(−[\d.]+ to −[\d.]+ % in 2 pairs of arms\)", layers)
    assert any(line.startswith("Dead latents by layers, against none: ") for line in said)


@pytest.mark.parametrize("verdict", ["lower", "undecided", "equal within 2 %", "no interval", "another word"])
def test_any_verdict_has_its_place(tmp_path: Path, verdict: str):
    results = with_figure(write_grid(tmp_path / "s", {"layers": ["none", "sparse 3"]}, 3, lambda *_: 0.1))
    view = load_view(results)
    for effect in view.tables["effects"]:
        effect["fvu_verdict"] = verdict
    assert any(f"{verdict} with sparse 3 (" in sentence.whole for sentence in answer(view))


def test_pairs_of_arms_that_differ_are_not_averaged_in_the_answer(tmp_path: Path):
    def fvu(levels: dict[str, Any], seed: int) -> float:
        return (0.1 if levels["penalty"] == 0 or levels["layers"] == "b" else 0.05) * (1 + 0.001 * seed)

    results = write_grid(tmp_path / "s", {"layers": ["a", "b"], "penalty": [0, 1]}, 3, fvu)
    make_tables(results)
    said = next(s.whole for s in answer(load_view(results)) if s.text.startswith("FVU by penalty"))
    assert re.search(r"with penalty 1 \w+ in 1 of 2 pairs of arms, .+ in 1 \(−50.0 to \+0.0 %\)", said)


def test_tables_can_be_read_by_a_screen_reader(depth_page: str):
    document = Document(depth_page)
    tables = [given for tag, given in document.tags if tag == "table" and given.get("class") == "sortable"]
    assert {"arms", "metrics", "effects", "reach", "layers", "tuning"} <= {given["id"] for given in tables}
    assert document.count("caption") == len(tables)
    headers = [given for tag, given in document.tags if tag == "th"]
    assert all(given.get("scope") in ("col", "row") for given in headers)
    for landmark in ("header", "nav", "main", "footer"):
        assert document.count(landmark) == 1
    assert document.links[0] == "answer"  # the skip link
    assert all(given.get("alt") for tag, given in document.tags if tag == "img")


def test_mse_is_shown(depth_page: str):
    assert depth_page.count('<th scope="col">MSE</th>') == 2
    assert "<dt>MSE</dt>" in depth_page


def test_a_screen_of_figures_is_open_and_the_others_are_folded(depth_page: str):
    shown, folded = depth_page.split('<details id="other-figures">')
    assert 1 <= shown.count("<figure>") <= 2
    assert folded.count("<figure>") + shown.count("<figure>") == 7


def test_texts_of_the_study_are_escaped_everywhere(tmp_path: Path):
    cells = [
        cell_record({"layers": level}, seed, 0.1 + seed / 1000) for level in ("none", NASTY) for seed in (0, 1)
    ]
    study = study_record("s", {"layers": ["none", NASTY]}, [0, 1], cells=4, question=NASTY)
    results = with_figure(write(tmp_path / "s", study, cells, []))
    (results / "provenance.json").write_text(json.dumps({"processor": NASTY}))
    page = make_report(results).read_text()
    assert "<b>" not in page
    assert page.count("<script>") == 1
    markdown = (results / "report.md").read_text()
    assert "<b>" not in markdown
    assert r"\<b\>a\</b\> \| \$x\_1\^2\$ \& 50 % \#1 \{\~\} \\n" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| ") and "effects-" in line]
    assert len(rows) == 2
    assert len({len(re.split(r"(?<!\\)\|", row)) for row in rows}) == 1
    tex = (results / "tables.tex").read_text()
    assert r"\textless{}b\textgreater{}a" in tex
    assert r"\$x\_1\textasciicircum{}2\$ \& 50 \% \#1 \{\textasciitilde{}\} \textbackslash{}n" in tex


def test_markdown_has_sentences_tables_and_the_files_of_figures(depth: Path, depth_page: str):
    markdown = (depth / "report.md").read_text()
    names = set(re.findall(r'<a name="([^"]+)"></a>', markdown))
    assert set(re.findall(r"\]\(#([^)]+)\)", markdown)) <= names
    images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown)
    assert len(images) == 7
    assert all((depth / image).is_file() for image in images)
    assert "sparse 3 instead of none, mean over 2 pairs of arms: FVU −19.9 % \\[" in markdown
    assert "- **MSE**: mean over tokens and dimensions of the squared error" in markdown


def test_latex_tables_have_the_same_columns_in_each_row(depth: Path, depth_page: str):
    tex = (depth / "tables.tex").read_text()
    kinds = [tex.count(rf"\begin{{{kind}}}") for kind in ("table", "longtable")]
    assert kinds == [tex.count(rf"\end{{{kind}}}") for kind in ("table", "longtable")]
    assert sum(kinds) == tex.count(r"\label{tab:depth-")
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", tex, re.DOTALL):
        for line in body.splitlines():
            if line.endswith(r"\\"):
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
    assert r"\toprule" in tex
    assert tex.count("{") == tex.count("}")
    assert tex.isascii() or "–" not in tex


def test_latex_escapes_what_it_would_take_for_its_own():
    assert escaped("50 % of a_b & −1 – “x”") == r"50 \% of a\_b \& $-$1 -- ``x''"


def test_provenance_says_when_where_and_with_what(tmp_path: Path):
    results = with_figure(write_grid(tmp_path / "s", {"layers": ["none", "sparse 3"]}, 1, lambda *_: 0.1))
    made = {
        "date": "2026-11-26",
        "commit": "0123456789ab",
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "processor": "Some CPU, 2 cores",
        "cells shared with other studies": {"optimizer": 12},
    }
    (results / "provenance.json").write_text(json.dumps(made))
    page = make_report(results).read_text()
    for words in (
        "results of 2026-11-26",
        "0123456789ab",
        "python 3.11.9, torch 2.13.0",
        "Some CPU, 2 cores",
        "optimizer 12",
    ):
        assert words in page, words
        assert words.split("results of ")[-1] in (results / "report.md").read_text()
    (results / "provenance.json").write_text("[]")
    with pytest.raises(UserError, match=r"provenance.json: expected an object, got list"):
        make_report(results)


def test_a_section_is_one_line_and_brings_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = with_figure(write_grid(tmp_path / "s", {"layers": ["none", "sparse 3"]}, 2, lambda *_: 0.1))
    view = load_view(results)
    view.tables["extra"] = [
        {"arm": "none", "gain_percent": 1.5, "gain_percent_low": 1.0, "gain_percent_high": 2.0, "sure": True},
        {
            "arm": "sparse 3",
            "gain_percent": None,
            "gain_percent_low": None,
            "gain_percent_high": None,
            "sure": None,
        },
    ]
    monkeypatch.setattr(report, "load_view", lambda _: view)
    added = Section("Something new", lambda view: [Sentence("It gains.", "extra", 1, "better")], ("extra",))
    empty = Section("Nothing to say", lambda view: [], ("not_there",))
    monkeypatch.setattr(sections, "SECTIONS", (*sections.SECTIONS, added, empty))
    page = make_report(results).read_text()
    assert 'It gains. <a class="row" href="#extra-1"' in page
    assert (
        '<tr id="extra-1"><th scope="row" class="words">none</th><td data-value="1.5">1.5<small>[1, 2]</small>'
        in page
    )
    assert "Nothing to say" not in page


def test_many_arms_make_a_page_that_opens_quickly(many: Path):
    page = (many / "report.html").read_text()
    assert len(page) < 2_000_000
    document = Document(page)
    assert set(document.links) <= set(document.ids)
    assert {f"arms-{n}" for n in range(1, 121)} <= set(document.ids)
    shown = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    assert shown.count("<li") < 150
    assert "<tr" not in shown  # all tables are folded
    answered = re.search(r"FVU by remedy, against remedy 0: .*", page)
    assert answered is not None
    assert "others" in answered[0]


def test_figures_of_many_arms_are_embedded_as_pixels_where_that_is_smaller(tmp_path: Path):
    results = with_figure(write_grid(tmp_path / "s", {"layers": ["none", "sparse 3"]}, 1, lambda *_: 0.1))
    (results / "figures" / "arms.svg").write_text(f"<svg>{' ' * 500_000}</svg>")
    (results / "figures" / "arms.png").write_bytes(b"\x89PNG")
    assert 'src="data:image/png;base64,iVBORw=="' in make_report(results).read_text()


def test_the_report_of_the_same_tables_is_the_same_byte_for_byte(depth: Path, depth_page: str):
    names = ("report.html", "report.md", "tables.tex")
    before = [(depth / name).read_bytes() for name in names]
    make_report(depth)
    assert [(depth / name).read_bytes() for name in names] == before
