"""What a study asks about its latents, from the study file to results and databases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from harness.cli import main
from harness.interpretability import measure
from harness.metrics import OF_LATENTS
from harness.study.spec import load_study
from tests.activations.pretrained_models import save_model, save_text
from tests.sweep.recorded import client, mlflow_runs, trials

SOURCE = """
kind: pretrained
model: {name: model}
text: {files: text.jsonl, held_out: {share: 0.2}}
activations: {hook: transformer.h.1, context: 16, tokens: 4_000, held_out_tokens: 2_000}
"""
STUDY = """
question: Can latents be read?
source: sources/tiny.yaml
recipe: {latents: 64, k: 4, tokens: 6_000, batch: 128, dead_window: 512, lr: 4.0e-3, sparsifier: batchtopk}
axes: {layers: [none, sparse 2]}
seeds: [0, 1]
interpretability: {latents: 24, tokens: 1_500, window: 8, windows: 6, to_explain: 12, quantiles: 3}
"""
CELLS = 4
RUN = ["run", "studies/small.yaml", "--workers", "1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, databases: Path) -> Path:
    """A workspace in which the study has been run."""
    root = tmp_path_factory.mktemp("latents")
    save_model("gpt2", root / "model")
    save_text(root / "text.jsonl", documents=1_000)
    (root / "studies" / "sources").mkdir(parents=True)
    (root / "studies" / "sources" / "tiny.yaml").write_text(SOURCE)
    (root / "studies" / "small.yaml").write_text(STUDY.lstrip())
    shutil.copytree(databases, root / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        main(RUN)
    return root


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to change."""
    root = shutil.copytree(finished, tmp_path / "workspace")
    monkeypatch.chdir(root)
    return root


def cells() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("results/small/cells.jsonl").read_text().splitlines()]


def run() -> int:
    """The exit code of a run that does not end well."""
    with pytest.raises(SystemExit) as ended:
        main(RUN)
    return int(str(ended.value.code))


def latents() -> Path:
    return Path("runs/small.latents")


def written() -> dict[str, int]:
    """When the figures of each cell and null were written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in latents().glob("*/figures.json")}


def test_every_figure_is_in_the_results_the_trials_and_the_runs(workspace: Path) -> None:
    rows = cells()
    assert len(rows) == CELLS
    told = {trial.user_attrs["cell"]: trial.user_attrs for trial in trials(workspace)}
    runs = {run.data.tags["cell"]: run.data.metrics for run in mlflow_runs(workspace)[0]}
    for row in rows:
        figures = json.loads((latents() / row["cell"] / "figures.json").read_text())["figures"]
        layers = figures.pop("layers")
        assert figures.keys() <= {metric.name for metric in OF_LATENTS}
        assert figures.keys() >= {"detection", "latents_dead", "intruder", "direction_cosine", "found_again"}
        assert row["heldout"].items() >= figures.items()
        assert told[row["cell"]].items() >= figures.items()
        assert runs[row["cell"]].items() >= {f"final/{name}": value for name, value in figures.items()}.items()
        assert [layer["latents_dead"] for layer in row["layers"]] == [layer["latents_dead"] for layer in layers]
        assert "not_measured" not in row
    study = json.loads(Path("results/small/study.json").read_text())
    assert study["interpretability"]["latents"] == 24
    assert study["nulls"].keys() == {"neurons", "principal_components"}


def test_the_tables_of_all_cells_are_in_the_results(workspace: Path) -> None:
    table = pl.read_parquet("results/small/latents.parquet")
    assert table["cell"].unique(maintain_order=True).to_list() == [row["cell"] for row in cells()]
    assert (table.group_by("cell").len()["len"] == 24).all()
    means = table.with_columns(pl.col("detection").fill_null(0.5)).group_by("cell").agg(pl.col("detection").mean())
    figures = {row["cell"]: row["heldout"]["detection"] for row in cells()}
    assert dict(means.iter_rows()) == pytest.approx(figures)
    scores = pl.read_parquet("results/small/latent_scores.parquet")
    assert scores.columns[:2] == ["cell", "latent"]
    assert scores["cell"].n_unique() == CELLS
    main(["report", "studies/small.yaml", "--step", "tables"])
    effects = pl.read_parquet("results/small/tables/effects.parquet")
    assert effects["detection_points"].null_count() == 0


def test_the_same_again_is_nothing_to_do(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main(RUN)  # the databases are copies, which are filled again
    before, results = written(), Path("results/small/latents.parquet").read_bytes()
    monkeypatch.setattr(client(workspace).__class__, "log_batch", None)  # nobody writes into MLflow
    main(RUN)
    assert written() == before
    assert Path("results/small/latents.parquet").read_bytes() == results


def test_the_order_on_disk_does_not_reach_the_results(workspace: Path) -> None:
    names = ("study.json", "cells.jsonl", "latents.parquet", "latent_scores.parquet")
    before = {name: Path("results/small", name).read_bytes() for name in names}
    records = [latents() / "cells.json", *latents().glob("null-*/null.json")]
    assert len(records) == 3
    for path in records:
        path.write_text(json.dumps(backwards(json.loads(path.read_text()))))
    main(RUN)
    assert {name: Path("results/small", name).read_bytes() for name in names} == before


def backwards(record: Any) -> Any:
    """The same record, with the keys of every object in the opposite order."""
    if isinstance(record, dict):
        return {key: backwards(record[key]) for key in reversed(record)}
    return record


def test_other_settings_interpret_again_and_train_nothing(workspace: Path) -> None:
    trained = {path: path.stat().st_mtime_ns for path in Path("runs/cells").glob("*/result.json")}
    study = Path("studies/small.yaml")
    study.write_text(study.read_text().replace("latents: 24", "latents: 8"))
    main(["evaluate", *RUN[1:]])
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert len(pl.read_parquet("results/small/latents.parquet")) == 8 * CELLS
    runs = {run.data.tags["cell"]: run.data.metrics for run in mlflow_runs(workspace)[0]}
    for row in cells():
        assert runs[row["cell"]]["final/detection"] == row["heldout"]["detection"]
    study.write_text(study.read_text().partition("interpretability")[0])  # and nothing is asked any more
    main(RUN)
    assert all("detection" not in row["heldout"] for row in cells())
    assert pl.read_parquet("results/small/latents.parquet").is_empty()


def test_where_only_the_other_seeds_are_others_nothing_is_judged_again(workspace: Path) -> None:
    asked = {path: path.stat().st_mtime_ns for path in latents().glob("*/answers.parquet")}
    figures = written()
    study = Path("studies/small.yaml")
    study.write_text(study.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    main(RUN)
    assert {path: path.stat().st_mtime_ns for path in asked} == asked
    again = written()
    assert {name for name in figures if again[name] != figures[name]} == {row["cell"] for row in cells()}
    assert not any("found_again" in row["heldout"] for row in cells())


def test_a_cell_that_fails_is_said_and_tried_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = torch.OutOfMemoryError("8 GiB are not free")
    name = cells()[1]["cell"]
    before = written()
    (latents() / name / "figures.json").unlink()

    def fails(cell: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(measure, "directions", fails)
        assert run() == 3
    said = capsys.readouterr().out
    assert f"the latents of 1 cells could not be interpreted: {type(failure).__name__}: {failure}; log: " in said
    assert "Traceback" in (latents() / name / "log.txt").read_text()
    assert [row["cell"] for row in cells() if row.get("not_measured") == ["interpretability"]] == [name]
    main(["status", "studies/small.yaml"])
    main(["plan", "studies/small.yaml"])
    said = capsys.readouterr().out
    assert "latents: 3 of 4 cells interpreted" in said
    assert "latents to interpret: 24 of each of 1 cells (3 done)" in said
    main(RUN)
    after = written()
    assert {cell for cell in after if after[cell] != before[cell]} == {name}
    assert not any("not_measured" in row for row in cells())
    assert not (latents() / name / "log.txt").exists()


def test_a_null_whose_file_is_damaged_is_measured_again_and_nothing_else(workspace: Path) -> None:
    file, before = latents() / "null-neurons" / "null.json", written()
    record = json.loads(file.read_text())
    file.write_text("{")
    main(["evaluate", *RUN[1:]])
    assert json.loads(file.read_text()) == record
    after = written()
    assert {name for name in after if after[name] != before[name]} <= {"null-neurons"}
    null = json.loads(Path("results/small/study.json").read_text())["nulls"]["neurons"]
    assert (null["label"], null["latents"]) == ("raw neurons", 24)
    assert 0 < null["figures"]["fvu"] < 1
    assert null["low"]["detection"] <= null["figures"]["detection"] <= null["high"]["detection"]


def test_a_pass_that_was_stopped_goes_on_where_it_was(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: pq.read_table(path) for path in latents().glob("*/latents.parquet")}
    lost = [row["cell"] for row in cells()[:2]]
    for name in lost:
        (latents() / name / "figures.json").unlink()
    real, done = measure.directions, []

    def stops(cell: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(cell)
        return real(cell)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "directions", stops)
        assert run() == 130
    first = written()
    assert lost[0] in first
    assert lost[1] not in first
    main(RUN)
    assert written().items() >= first.items()
    assert {path: pq.read_table(path) for path in before} == before


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("keep: none", "keep: expected 'reported' or 'all', since 'interpretability' needs trained SAEs"),
        ("keep: all", None),
    ],
)
def test_saes_that_are_not_kept_cannot_be_interpreted(
    workspace: Path, capsys: pytest.CaptureFixture[str], change: str, line: str | None
) -> None:
    study = Path("studies/small.yaml")
    study.write_text(f"{study.read_text()}{change}\n")
    if line is None:
        assert load_study(study).keep == "all"
        return
    with pytest.raises(SystemExit) as ended:
        main(RUN)
    assert ended.value.code == 2
    assert f"studies/small.yaml:7: {line}" in capsys.readouterr().err


def test_a_source_without_text_has_nothing_to_read_latents_on(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic = "kind: synthetic\nwidth: 8\nfeatures: 16\nactive: 2\ntokens: 512\nheld_out_tokens: 256\n"
    Path("studies/sources/known.yaml").write_text(synthetic)
    study = Path("studies/small.yaml")
    text = study.read_text()
    study.write_text(text.replace("tiny.yaml", "known.yaml"))
    with pytest.raises(SystemExit):
        main(RUN)
    assert "studies/small.yaml:6: interpretability: expected a source with text" in capsys.readouterr().err
    study.write_text(text)
    manifest = Path("data/tiny/activations/manifest.json")
    about = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({name: value for name, value in about.items() if name != "text"}))
    with pytest.raises(SystemExit):
        main(RUN)
    assert "expected" in capsys.readouterr().err
