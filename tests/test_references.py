"""SAEs of other origin beside a study's arms: `references` in the study file."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from harness.cli import main
from harness.training.interchange.formats import read_sae, write_sae
from tests.conftest import WIDTH
from tests.test_cli import fails
from tests.training.exported import trained

STUDY = "studies/small.yaml"


def refer(**folders: Path) -> None:
    path = Path(STUDY)
    lines = "".join(f"  {name}: {folder}\n" for name, folder in folders.items())
    path.write_text(f"{path.read_text().partition('references:')[0]}references:\n{lines}")


@pytest.fixture
def seeds(undisturbed, tmp_path, monkeypatch) -> list[dict]:
    """The rows of the seeds table, in a workspace of this test's own in which the study is done."""
    shutil.copytree(undisturbed, tmp_path / "workspace")
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.setenv("COLUMNS", "200")
    main(["report", STUDY, "--step", "tables"])
    return pl.read_parquet("results/small/tables/seeds.parquet").to_dicts()


def test_an_sae_that_went_out_and_is_referred_to_has_its_own_figures(seeds, tmp_path, capsys):
    """Whatever its format: its weights, in other units by then, are measured as the cells' are."""
    shallow, deep = (next(r for r in seeds if r["axis_layers"] == layers) for layers in ("none", "sparse 2"))
    folders = {"kept": (tmp_path / "workspace" / deep["sae"])}
    for name in ("sae_lens", "sparsify"):
        folders[name] = tmp_path / name
        write_sae(folders[name], *read_sae(Path(shallow["sae"])), name)
    refer(**folders)
    before = Path("results/small/tables/cells.csv").read_text()
    main(["evaluate", STUDY, "--workers", "1"])
    main(["report", STUDY])
    said = capsys.readouterr().out
    rows = {row["reference"]: row for row in pl.read_csv("results/small/tables/references.csv").to_dicts()}
    assert [rows[name]["package"] for name in folders] == ["harness", "SAELens", "sparsify"]
    for name, row in [("kept", deep), ("sae_lens", shallow), ("sparsify", shallow)]:
        for metric in ("fvu", "nmse", "mse", "l0", "dead_fraction", "alive"):
            assert rows[name][metric] == pytest.approx(row[metric], rel=1e-5), (name, metric)
    assert Path("results/small/tables/cells.csv").read_text() == before
    assert f"{rows['sparsify']['fvu']:.4f}" in next(line for line in said.splitlines() if "sparsify (ref" in line)
    assert ">sae_lens<small>reference</small></th>" in Path("results/small/report.html").read_text()
    # measured once
    measured = sorted(Path("runs/references").iterdir())
    times = [path.stat().st_mtime_ns for path in measured]
    assert len(measured) == 3
    main(["evaluate", STUDY, "--workers", "1"])
    assert [path.stat().st_mtime_ns for path in measured] == times
    assert set(json.loads(Path("results/small/study.json").read_text())["references"]) == set(folders)


def test_references_that_do_not_fit_are_one_line_before_anything_starts(seeds, tmp_path, capsys):
    refer(lost=tmp_path / "nowhere")
    said = fails(capsys, "run", STUDY)
    assert said.startswith("harness: studies/small.yaml:")
    assert "references.lost: expected the folder of an SAE" in said
    narrow = trained()
    assert narrow.config.width != WIDTH
    write_sae(tmp_path / "narrow", narrow.config, narrow.sae.state_dict(), "sae_lens")
    refer(narrow=tmp_path / "narrow")
    assert "expected width 16, got 8" in fails(capsys, "evaluate", STUDY)
    deep = trained(layers="sparse 2")
    write_sae(tmp_path / "deep", deep.config, deep.sae.state_dict(), "harness")
    refer(deep=tmp_path / "deep")
    said = fails(capsys, "evaluate", STUDY)
    assert "references.deep: " in said
    assert "expected one that was trained on these very activations, since layers: sparse 2" in said
