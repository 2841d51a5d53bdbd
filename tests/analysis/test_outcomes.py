"""Features beside FVU: in every table, sentence and figure where they were measured, and in none elsewhere."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.analysis.figures import FIGURES, make_figures
from harness.analysis.plots import arms, effects
from harness.analysis.plots.style import house_style
from harness.analysis.report import make_report
from harness.analysis.results.files import read_table
from harness.analysis.sentences.findings import findings, headline
from harness.analysis.summary import summary
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import cell_record, study_record, write

LAYERS = {"layers": ["none", "dense 2-2"]}
NAMES = ("mcc", "f1", "uniqueness")


def known_features(folder: Path, fvu: float, mcc: float, uniqueness: float) -> Path:
    """Two arms in three seeds: the reference at FVU 0.1, MCC 0.6, F1 0.5, uniqueness 0.9; the other as given."""
    cells = []
    for seed in range(3):
        for name, figures in (("none", (0.1, 0.6, 0.5, 0.9)), ("dense 2-2", (fvu, mcc, 0.5, uniqueness))):
            features = dict(zip(NAMES, figures[1:], strict=True)) | {"mcc": figures[1] + 0.01 * seed}
            cells.append(cell_record({"layers": name}, seed, figures[0], features=features))
    write(folder, study_record(folder.name, LAYERS, [0, 1, 2], cells=6), cells, [])
    make_tables(folder)
    return folder


@pytest.fixture(scope="module")
def better_fvu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FVU 10 % lower, MCC 4 points lower, uniqueness 2 points higher."""
    return known_features(tmp_path_factory.mktemp("results") / "s", 0.09, 0.56, 0.92)


def effect_of(results: Path) -> dict[str, Any]:
    (row,) = [row for row in read_table(results, "effects").to_dicts() if row["kind"] == "pair"]
    return row


def test_effects_are_in_points_with_a_verdict_each(better_fvu: Path):
    effect = effect_of(better_fvu)
    assert effect["mcc_points"] == pytest.approx(-4)
    # s = 0.01 in both arms: 1 · sqrt(2 / 3) points, t(4) = 2.776445
    assert effect["mcc_points_high"] == pytest.approx(-4 + 2.2669576)
    verdicts = [effect[f"{name}_verdict"] for name in ("fvu", "dead", *NAMES)]
    assert verdicts == [
        "lower",
        "equal within 0.098 points",  # one latent in 1,024
        "lower",
        "equal within 0.0001 points",
        "higher",
    ]


def test_arms_seeds_cells_and_metrics_have_them(better_fvu: Path):
    arm = read_table(better_fvu, "arms").to_dicts()[0]
    assert arm["mcc"] == pytest.approx(0.61)
    assert arm["mcc_high"] == pytest.approx(0.61 + 0.0177410, abs=1e-6)  # 0.60, 0.61, 0.62: t(3.2) = 3.072829
    for table in ("cells", "seeds"):
        assert set(NAMES) <= set(read_table(better_fvu, table).columns)
    metrics = json.loads((better_fvu / "metrics.json").read_text())
    known = {"fvu": 0.1, "dead_fraction": 0.0, "mcc": 0.61, "f1": 0.5, "uniqueness": 0.9}
    assert metrics["arms"]["none"] == {"n": 3, "l0": 16.0, **known}


def test_nothing_of_them_is_anywhere_without(depth: Path):
    for table in ("cells", "arms", "seeds", "effects"):
        assert not [column for column in read_table(depth, table).columns if column.startswith(NAMES)]
    assert "MCC" not in str(findings(load_view(depth)))


def test_finding_has_a_clause_for_each(better_fvu: Path):
    (finding,) = findings(load_view(better_fvu))["layers"]
    assert "MCC −4.0 points [−6.3, −1.7], lower; F1 +0.0 points [0.0, 0.0], equal within" in finding.text


def said(folder: Path) -> list[str]:
    return [sentence.text for sentence in headline(load_view(folder))]


def test_headline_says_that_fvu_and_features_disagree(better_fvu: Path):
    lines = said(better_fvu)
    assert lines[0].startswith(
        "Lowest held-out FVU: dense 2-2: FVU 0.0900 [0.0900, 0.0900], L0 16.00, dead latents"
    )
    assert lines[1].startswith("Highest MCC: none: FVU 0.1000")
    assert lines[2:] == [
        "dense 2-2 lowers FVU but loses features: FVU −10.0 % [−10.0, −10.0]; MCC −4.0 points [−6.3, −1.7]; "
        "yet uniqueness +2.0 points [2.0, 2.0]."
    ]


def test_the_other_way_round_and_agreement(tmp_path: Path):
    worse = said(known_features(tmp_path / "worse", 0.11, 0.64, 0.9))
    assert worse[-1].startswith("dense 2-2 raises FVU but gains features: FVU +10.0 %")
    agreed = said(known_features(tmp_path / "agreed", 0.09, 0.64, 0.9))
    assert not [line for line in agreed if "but" in line]
    alone = said(known_features(tmp_path / "alone", 0.11, 0.6, 0.95))
    assert not [line for line in alone if "but" in line]  # uniqueness alone gains no features
    level = said(known_features(tmp_path / "level", 0.1, 0.56, 0.9))
    assert not [line for line in level if "but" in line]


def test_a_seed_without_them_is_left_out_of_them_alone(tmp_path: Path):
    results = known_features(tmp_path / "s", 0.09, 0.56, 0.92)
    lines = [json.loads(line) for line in (results / "cells.jsonl").read_text().splitlines()]
    for name in NAMES:
        del lines[-1]["heldout"][name]  # dense 2-2, seed 2
    (results / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    make_tables(results)
    arm = read_table(results, "arms").to_dicts()[1]
    assert (arm["n"], arm["mcc"]) == (3, pytest.approx(0.565))
    assert effect_of(results)["mcc_points"] == pytest.approx(-4.5)  # 0.565 against 0.61


def test_page_summary_and_figures_show_them(better_fvu: Path):
    drawn = {path.stem for path in make_figures(better_fvu)}
    assert drawn == {name for name in FIGURES if not name.startswith("interpretability")} - {
        "tuning",
        "curves",
        "life",
        "by_k",
        "dose",
    }
    page = make_report(better_fvu).read_text()
    assert '<th scope="col">MCC, %</th>' in page
    assert "<dt>Uniqueness</dt>" in page
    assert "<dt>MCC</dt><dd>Mean over features of |correlation|" in page
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(summary(better_fvu))
    text = console.export_text()
    assert "57.0   50.0" in text
    assert "MCC: mean over features of |correlation|" in text
    with house_style():
        figures = [arms.draw_features(load_view(better_fvu)), effects.draw_features(load_view(better_fvu))]
    for figure in figures:
        assert "MCC: mean over features of |correlation|" in figure.subfigs[0].texts[1].get_text()


def test_the_definition_of_each_stands_wherever_it_is_shown_and_nowhere_else(tmp_path: Path):
    results = known_features(tmp_path / "s", 0.09, 0.56, 0.92)
    lines = [json.loads(line) for line in (results / "cells.jsonl").read_text().splitlines()]
    for line in lines:
        del line["heldout"]["f1"], line["heldout"]["uniqueness"]
    (results / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    make_tables(results)
    (results / "figures").mkdir()
    (results / "figures" / "arms.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    page = make_report(results).read_text()
    assert "<dt>MCC</dt>" in page
    assert "<dt>F1</dt>" not in page
