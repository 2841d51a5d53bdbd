"""Measuring apart from training: changed metrics, failing ones, and cells whose SAEs were not kept."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness import metrics
from harness.cli import main
from harness.evaluation import measurements
from harness.evaluation.measurements import Measurement
from harness.study.recipe import Recipe
from harness.training.cohort import Cohort
from harness.training.data import open_data
from harness.workers.cell_folder import CellFolder
from harness.workers.measure_cell import measure_cell
from harness.workers.run_cell import run_cell

RECIPE = Recipe(latents=64, k=4, tokens=2_000, batch=128, dead_window=1_024, lr=1e-3)
HERE = "tests.sweep.test_measuring"


def broken(sae, held_out):
    raise ValueError("no such quantile")


def mended(sae, held_out):
    return {"fvu": float("nan"), "tokens": len(held_out.x)}


def test_a_measurement_that_fails_costs_its_own_figures_alone(small_study, monkeypatch):
    row = replace(metrics.FVU, name="quantile", measured_by=f"{HERE}:broken")
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, row))
    quality = Measurement("harness.evaluation.quality:measure", "code", "data")
    failing, works = (Measurement(f"{HERE}:{name}", "code", "data") for name in ("broken", "mended"))
    data, folder = open_data("data/random/activations", "cpu"), CellFolder(Path("runs/cells/one"))
    cell = run_cell(folder.path, RECIPE, lambda: data, measurements=[failing, quality])
    Cohort({"one": cell}).train(lambda step: data.read(RECIPE, step), 1e9, centred=data.centred)

    outcome = folder.outcome([failing, quality], RECIPE)
    assert outcome["state"] == "complete"
    assert outcome["not_measured"] == ["quantile"]
    assert outcome["score"] == outcome["heldout"]["fvu"]
    assert folder.why_not_measured(failing) == "ValueError: no such quantile"
    assert "no such quantile" in folder.log.read_text()
    assert [m.name for m in folder.stale([failing, quality, works], RECIPE)] == [failing.name, works.name]

    assert measure_cell(folder.path, RECIPE, lambda: data, [quality, works]) == "done"
    assert folder.measured(works, RECIPE)["tokens"] == 1024
    assert folder.stale([works, quality], RECIPE) == []
    for changed in (replace(works, code="other"), replace(works, held_out="other")):
        assert folder.stale([changed], RECIPE) == [changed]
    assert folder.stale([works], replace(RECIPE, dead_window=512)) == [works]


@pytest.fixture
def finished(tmp_path, undisturbed, monkeypatch) -> Path:
    """A workspace in which the small study is done; it keeps the four cells that it reports, of eight."""
    root = shutil.copytree(undisturbed, tmp_path / "workspace")
    monkeypatch.chdir(root)
    return root


def rows() -> list[dict]:
    return [json.loads(line) for line in Path("results/small/cells.jsonl").read_text().splitlines()]


def test_a_changed_metric_is_measured_again_by_the_next_run(finished, monkeypatch, capsys):
    before = rows()
    trained = {path: path.stat().st_mtime_ns for path in Path("runs/cells").glob("*/result.json")}
    monkeypatch.setattr(measurements, "code_fingerprint", lambda roots: "changed")
    main(["run", "studies/small.yaml", "--workers", "1"])
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    for row, old in zip(rows(), before, strict=True):
        if old["sae"] is not None:
            assert row == old
        else:
            assert (row["state"], row["score"], row["heldout"]) == ("complete", old["score"], None)
            assert {"fvu", "l0", "dead_fraction", "unexplained", "mcc"} <= {*row["not_measured"]}
    assert "4 cells are not measured, since their SAEs were not kept" in " ".join(capsys.readouterr().out.split())

    main(["run", "studies/small.yaml", "--workers", "1", "--train-again"])
    assert rows() == before
    again = {path for path in trained if path.stat().st_mtime_ns != trained[path]}
    assert {path.parent.name for path in again} == {row["cell"] for row in before if row["sae"] is None}
