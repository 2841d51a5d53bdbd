"""What latents mean: from the files of the sweep to tables, figures, sentences and warnings."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from harness.analysis.arms.arm import collect_arms
from harness.analysis.figures import FIGURES
from harness.analysis.interpretability import sentences as interpretability
from harness.analysis.interpretability.latents import HARD, balanced, read_latents
from harness.analysis.interpretability.warnings import warnings
from harness.analysis.plots.style import house_style
from harness.analysis.report import make_report
from harness.analysis.results.files import read_cells, read_study, read_table
from harness.analysis.sentences.answer import answer
from harness.analysis.summary import summary
from harness.analysis.tables import make_tables
from harness.analysis.views.view import View, load_view
from harness.errors import UserError
from tests.analysis.pictures import faults, view_of
from tests.analysis.synthetic_latents import add_latents
from tests.analysis.synthetic_results import write_grid

LAYERS = {"layers": ["none", "dense 2-2", "sparse 3"]}
DRAWN = ("interpretability", "interpretability_effects", "interpretability_arms", "interpretability_profiles")


def written(folder: Path, axes: dict[str, list[Any]] = LAYERS, seeds: int = 3, **changes: Any) -> Path:
    results = write_grid(folder, axes, seeds, lambda levels, seed: 0.1 + 0.002 * seed)
    return add_latents(results, **changes)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms at three seeds, with tables and one empty figure."""
    folder = written(tmp_path_factory.mktemp("results") / "s", latents=80)
    make_tables(folder)
    return with_empty_figure(folder)


def with_empty_figure(folder: Path) -> Path:
    """The report needs one."""
    (folder / "figures").mkdir()
    (folder / "figures" / "interpretability.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    return folder


@pytest.fixture(scope="module")
def view(results: Path) -> View:
    return load_view(results)


def changed(results: Path, folder: Path, **figures: float) -> View:
    """The view of a copy in which every cell has these figures."""
    folder.mkdir()
    for path in results.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    cells = [json.loads(line) for line in (results / "cells.jsonl").read_text().splitlines()]
    for cell in cells:
        cell["heldout"] |= figures
    (folder / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    return view_of(folder)


def test_both_files_say_the_same_of_each_latent(results: Path):
    sampled = read_latents(results)
    for name, score, kinds in (
        ("detection", "detection", ("random",)),
        ("detection_hard", "detection", HARD),
        ("fuzzing", "fuzzing", ()),
        ("intruder", "intruder", ()),
    ):
        found = balanced(sampled.scores, score, kinds, ("cell", "latent")).sort("cell", "latent")
        known = sampled.latents.filter(pl.col(name).is_not_null()).sort("cell", "latent")
        assert found["latent"].to_list() == known["latent"].to_list()
        assert found["value"].to_list() == pytest.approx(known[name].to_list())


def test_a_latent_without_negatives_of_a_kind_has_no_balanced_accuracy(results: Path):
    scores = read_latents(results).scores.filter(pl.col("kind") != "similar")
    by = ("cell", "latent")
    assert balanced(scores, "detection", ("similar",), by).is_empty()
    assert len(balanced(scores, "detection", HARD, by)) == len(balanced(scores, "detection", ("random",), by))


def rows_of(results: Path, arm: str, by: str) -> list[dict[str, Any]]:
    return [row for row in read_table(results, "latents").to_dicts() if (row["arm"], row["by"]) == (arm, by)]


def test_bins_of_firing_rates_and_the_dead_are_all_latents(results: Path):
    for arm in LAYERS["layers"]:
        (whole,) = rows_of(results, arm, "all")
        bins = rows_of(results, arm, "firing rate")
        assert whole["latents"] == 240
        assert sum(row["share"] for row in bins) + whole["dead"] == pytest.approx(1)
        assert [row["place"] for row in bins] == sorted({row["place"] for row in bins})
        assert bins[-1]["bin"] == "over 10 %"
        assert bins[-1]["dense"] == 1


def test_detection_of_all_is_the_figure_of_alive_latents(results: Path):
    arms = {row["arm"]: row for row in read_table(results, "arms").to_dicts()}
    for arm in LAYERS["layers"]:
        (whole,) = rows_of(results, arm, "all")
        assert whole["detection"] == pytest.approx(arms[arm]["detection_alive"])
        assert whole["detection_hard"] == pytest.approx(arms[arm]["detection_hard_alive"])
        assert whole["token_only"] == pytest.approx(arms[arm]["latents_token_only"])


def test_latents_found_again_by_firing_rate_by_hand(results: Path):
    record, latents = read_study(results), read_latents(results).latents
    (arm,) = [one for one in collect_arms(record, read_cells(results, record)) if one.label == "none"]
    own = latents.filter(pl.col("cell").is_in([cell.cell for cell in arm.finished().values()]))
    of_cells = own.filter(pl.col("firing_rate") > 0.1).group_by("cell").agg(pl.col("found_again").mean())
    assert rows_of(results, "none", "firing rate")[-1]["found_again"] == pytest.approx(
        of_cells["found_again"].mean()
    )


def test_recall_and_precision_by_strength_by_hand(results: Path):
    scores = read_latents(results).scores
    record = read_study(results)
    arms = collect_arms(record, read_cells(results, record))
    cells = [cell.cell for cell in arms[0].finished().values()]
    own = scores.filter((pl.col("score") == "detection") & pl.col("cell").is_in(cells)).to_dicts()
    strongest = rows_of(results, "none", "quantile")[-1]
    recalls, precisions = [], []
    for cell in cells:
        hits: dict[int, list[float]] = {}
        right: dict[int, list[float]] = {}
        for row in own:
            if row["cell"] == cell and row["quantile"] == 4:
                hits.setdefault(row["latent"], []).append(row["value"])
            if row["cell"] == cell and row["kind"] == "random":
                right.setdefault(row["latent"], []).append(row["value"])
        recall = sum(sum(values) / len(values) for values in hits.values()) / len(hits)
        false = 1 - sum(sum(values) / len(values) for values in right.values()) / len(right)
        recalls.append(recall)
        precisions.append(recall / (recall + false))
    assert strongest["recall"] == pytest.approx(sum(recalls) / 3)
    assert strongest["precision"] == pytest.approx(sum(precisions) / 3)
    assert strongest["bin"] == "5 of 5 (strongest)"
    rising = [row["recall"] for row in rows_of(results, "none", "quantile")]
    assert rising[0] < rising[-1]


def test_only_stacked_saes_have_layers(results: Path):
    assert not rows_of(results, "none", "layer")
    layers = rows_of(results, "sparse 3", "layer")
    assert [row["bin"] for row in layers] == ["layer 1", "layer 2", "layer 3"]
    assert sum(row["latents"] for row in layers) == 240


def test_no_interval_leaves_what_a_share_can_be(results: Path):
    table = read_table(results, "latents")
    ends = table.select(pl.col("^.*_low$").min(), pl.col("^.*_high$").max()).row(0, named=True)
    assert all(value is None or 0 <= value <= 1 for value in ends.values())


def variance(results: Path, outcome: str) -> dict[str, dict[str, Any]]:
    rows = read_table(results, "interpretability_variance").to_dicts()
    return {row["component"]: row for row in rows if row["outcome"] == outcome}


def test_variance_is_split_and_the_bootstrap_agrees(results: Path):
    for outcome in ("detection", "detection_hard", "fuzzing", "intruder"):
        own = variance(results, outcome)
        assert [*own] == ["seed", "latent", "draw", "mean of an arm", "mean of an arm at these seeds"]
        assert own["latent"]["df"] == 9 * 79
        assert own["draw"]["df"] == 9 * 80
        assert sum(row["share"] or 0 for row in own.values()) == pytest.approx(1)
        at_seeds = own["mean of an arm at these seeds"]
        assert at_seeds["error"] == pytest.approx(at_seeds["bootstrap"], rel=0.15)
        squares = [own[name]["error"] ** 2 for name in ("seed", "latent", "draw")]
        assert own["mean of an arm"]["error"] == pytest.approx(sum(squares) ** 0.5)
    assert variance(results, "intruder")["draw"]["share"] > variance(results, "detection")["draw"]["share"]


def test_one_seed_has_no_variance_between_seeds(tmp_path: Path):
    results = written(tmp_path / "s", seeds=1, latents=20)
    make_tables(results)
    assert variance(results, "detection") == {}
    (whole,) = rows_of(results, "none", "all")
    assert whole["detection"] is not None
    assert whole["detection_low"] is None


def test_half_of_the_latents_dead_halves_what_is_counted_and_leaves_the_living(tmp_path: Path):
    alive, half = (written(tmp_path / name, latents=200, dead=dead) for name, dead in (("a", 0.0), ("b", 0.5)))
    rows = []
    for results in (alive, half):
        make_tables(results)
        (whole,) = rows_of(results, "none", "all")
        arm = read_table(results, "arms").row(0, named=True)
        rows.append((whole["detection"], arm["detection_failed"], arm["detection"] - 0.5, whole["dead"]))
    (living, failed, above, none_dead), (living_half, failed_half, above_half, half_dead) = rows
    assert (none_dead, half_dead) == (0, 0.5)
    assert living_half == pytest.approx(living, abs=0.01)
    assert failed_half / failed == pytest.approx(0.5, abs=0.01)
    assert above_half / above == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_drawn_without_faults(view: View, name: str):
    with house_style():
        figure = FIGURES[name](view)
        assert figure is not None
        assert faults(figure) == []


@pytest.mark.parametrize(
    ("axes", "seeds"),
    [
        ({"k": [2**i for i in range(8)]}, 1),  # more levels than a figure has colours
        ({"layers": ["none", "sparse 3"], "penalty": [0, 0.1]}, 2),
    ],
)
def test_every_shape_of_study_can_be_drawn(tmp_path: Path, axes: dict[str, list[Any]], seeds: int):
    view = view_of(written(tmp_path / "s", axes, seeds, latents=12))
    with house_style():
        for name in DRAWN:
            figure = FIGURES[name](view)
            assert figure is not None, name
            assert faults(figure) == [], name


def test_lines_of_nulls_are_those_of_study_json(view: View):
    with house_style():
        figure = FIGURES["interpretability"](view)
    assert figure is not None
    (first, *_) = [ax for part in figure.subfigs for ax in part.axes]
    levels = {round(line.get_ydata()[0], 1) for line in first.lines if len(set(line.get_xdata())) == 2}
    assert {50.0, 57.0, 60.0, 66.0} <= levels
    assert view.study.nulls["neurons"].figures["detection"] == 0.57


def test_the_answer_says_what_layers_cost(view: View):
    said = {sentence.text: sentence for sentence in answer(view)}
    sentence = said["Detection by layers, against none"]
    assert sentence.table == "interpretability_effects"
    assert any(part.judgement == "worse" and "dense 2-2" in part.text for part in sentence.parts)
    effects = [row for row in view.tables["effects"] if row["kind"] == "pair"]
    for name, label in (("weighted", "weighted by firing rate"), ("hard", "with hard negatives")):
        same = all(row[f"detection_{name}_verdict"] == row["detection_verdict"] for row in effects)
        (agreeing,) = [text for text in said if text.endswith("by layers: the same verdicts as detection.")] or [
            ""
        ]
        assert (f"etection {label}" in agreeing) == same
        assert (f"Detection {label} by layers, against none" in said) != same


def test_every_sentence_points_to_a_row_of_the_page(results: Path, view: View):
    page = make_report(results).read_text()
    found = interpretability.sentences(view)
    assert found["layers"]
    assert found["Beside nulls"]
    assert found["Where the variance comes from"]
    for group in found.values():
        for sentence in group:
            assert f'id="{sentence.anchor}"' in page, sentence
    assert "What latents of every arm mean" in (results / "tables.tex").read_text()
    assert "## Interpretability" in (results / "report.md").read_text()
    assert page.count('alt="How well explanations of latents tell where they fire') == 1


def test_points_above_a_null_name_the_arms_that_are_not_above_it(results: Path, tmp_path: Path):
    view = changed(results, tmp_path / "s", detection=0.66)
    (sentence,) = [
        one
        for one in interpretability.sentences(view)["Beside nulls"]
        if one.text.startswith("Points above SAEs of a model with random weights: detection ")
    ]
    assert "not shown to be above it for any arm;" in sentence.text


def test_a_level_without_scores_is_said_to_be_not_measured(results: Path, tmp_path: Path):
    """As while the latents of some cells are not interpreted yet."""
    view = changed(results, tmp_path / "s")
    scores = [metric.effect for metric in view.interpretability]
    effects = [{**row, **dict.fromkeys(scores)} for row in view.tables["effects"]]
    said = interpretability.sentences(View(view.study, {**view.tables, "effects": effects}))
    assert [one.text for one in said["layers"]] == [
        "dense 2-2 instead of none: not measured.",
        "sparse 3 instead of none: not measured.",
    ]


def test_the_answer_says_how_far_the_baseline_is_above_each_null(view: View):
    (sentence,) = interpretability.headline(view)
    arm = view.arms[0]
    assert sentence.text.startswith(f"Detection of none: {100 * arm['detection']:.1f} % [")
    assert f"+{100 * (arm['detection'] - 0.57):.1f} points [" in sentence.text
    assert "against raw neurons" in sentence.text
    assert sentence.text in [said.text for said in answer(view)]


def test_the_terminal_says_it_too(results: Path):
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(summary(results))
    said = console.export_text()
    assert "what latents mean" in said
    assert "Detection by layers, against none: " in said


def test_warnings_of_a_judge_that_accepts_anything_and_of_answers_that_are_not_valid(
    results: Path, tmp_path: Path
):
    said = " ".join(warnings(changed(results, tmp_path / "s", detection_permuted=0.8, invalid_answers=0.2)))
    assert "The judge accepts explanations of other latents" in said
    assert "Up to 20.0 % of the judge's answers are not valid" in said


def test_warning_of_differences_that_so_many_latents_cannot_show(tmp_path: Path):
    view = view_of(written(tmp_path / "s", {"layers": ["none", "sparse 3"]}, latents=20, dead=0.0))
    (warning,) = [one for one in warnings(view) if one.startswith("Detection:")]
    assert "1 of 1 comparison is undecided and smaller than that" in warning


def test_warning_of_latents_without_a_score(results: Path, tmp_path: Path):
    said = " ".join(warnings(changed(results, tmp_path / "s", latents_unscored=0.4)))
    assert (
        "Up to 40.0 % of the sampled latents of “none”, “dense 2-2” and “sparse 3” fire in too few windows" in said
    )


@pytest.mark.parametrize(
    ("read", "key"), [(999, "`interpretability: {tokens: …}`"), (10**9, "`held_out_tokens` of the source")]
)
def test_the_warning_names_what_bounds_the_text(results: Path, tmp_path: Path, read: int, key: str):
    view = changed(results, tmp_path / "s", latents_unscored=0.4)
    study = view.study.model_copy(update={"interpretability": {**view.study.interpretability, "tokens": read}})
    assert f"more text ({key})" in " ".join(warnings(View(study, view.tables)))


def test_warning_that_the_choice_of_tuned_settings_is_not_in_intervals(view: View):
    assert not [one for one in warnings(view) if "not settle this choice" in one]
    arms = [{**arm, "choice_factor": 1.2} for arm in view.arms]
    study = view.study.model_copy(update={"tuned": ["lr"], "axes": {**view.study.axes, "lr": [0.1]}})
    open_choice = View(study, {**view.tables, "arms": arms})
    assert [
        one
        for one in warnings(open_choice)
        if one.startswith("Intervals of what latents mean are at the chosen lr")
    ]


def test_directions_of_stacked_layers_are_named_by_layer(view: View):
    cosines = dict(zip((1, 2, 3), (0.17, 0.28, 1.0), strict=True))
    layers = [{**row, "direction_cosine": cosines[row["layer"]]} for row in view.tables["layers"]]
    said = interpretability.sentences(View(view.study, {**view.tables, "layers": layers}))
    (sentence,) = [one for one in said["Layers of stacked SAEs"] if "constancy" in one.text]
    assert sentence.text.startswith(
        "sparse 3: constancy of the direction is 0.17 in layer 1, 0.28 in layer 2 and 1.00 in layer 3. "
    )


def test_a_study_that_does_not_ask_has_nothing_of_it(tmp_path: Path):
    results = write_grid(tmp_path / "s", LAYERS, 2, lambda levels, seed: 0.1 + 0.01 * seed)
    make_tables(results)
    view = load_view(results)
    with house_style():
        assert [FIGURES[name](view) for name in DRAWN] == [None] * 4
    assert read_table(results, "latents").is_empty()
    (with_empty_figure(results) / "figures" / "interpretability.svg").rename(results / "figures" / "arms.svg")
    assert "nterpretability" not in make_report(results).read_text()


def test_files_that_are_not_such_tables_are_one_line(results: Path, tmp_path: Path):
    folder = written(tmp_path / "s", latents=12)
    scores = pl.read_parquet(folder / "latent_scores.parquet")
    scores.drop("quantile").write_parquet(folder / "latent_scores.parquet")
    with pytest.raises(UserError, match=r"latent_scores\.parquet: expected the columns .*; missing: quantile"):
        make_tables(folder)
    (folder / "latent_scores.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match=r"latent_scores\.parquet: not a Parquet file"):
        make_tables(folder)
    (folder / "latent_scores.parquet").unlink()
    with pytest.raises(UserError, match=r"no latent_scores\.parquet beside latents\.parquet"):
        make_tables(folder)
