"""A study of transcoders, from the source file to the report."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import load_sae
from harness.activations.store import ActivationStore
from harness.activations.store_writer import StoreWriter
from harness.cli import main
from harness.study.plan import cost
from harness.study.recipe import Recipe
from tests.conftest import SOURCE, WIDTH

OUT = 24
STUDY = """
question: Does one more layer help?
source: sources/random.yaml
recipe: {latents: 64, k: 4, tokens: 8_000, batch: 128, dead_window: 1_024, lr: 8.0e-3}
axes:
  layers: [none, sparse 2]
seeds: [0, 1]
"""
TARGET = "{hook: transformer.h.0.mlp, side: input, target: {hook: transformer.h.0.mlp, width: 24},"


@pytest.fixture
def study(tmp_path, monkeypatch, databases) -> Path:
    """The study file, in a workspace whose targets are a network of the inputs."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(databases, tmp_path / "runs")
    (tmp_path / "studies" / "sources").mkdir(parents=True)
    source = SOURCE.replace("{hook: transformer.h.0,", TARGET)
    assert source != SOURCE
    (tmp_path / "studies" / "sources" / "random.yaml").write_text(source)
    path = Path("studies/small.yaml")
    path.write_text(STUDY.lstrip())
    store = tmp_path / "data" / "random" / "activations"
    store.mkdir(parents=True)
    splits = {"train": 8192, "held_out": 1024}
    writer = StoreWriter(store, splits, WIDTH, "float32", shard_tokens=3000, target_width=OUT)
    random = np.random.default_rng(0)
    weights = random.standard_normal((WIDTH, OUT))
    for split, tokens in splits.items():
        x = random.standard_normal((tokens, WIDTH))
        for one, rows in ((writer, x), (writer.targets, 10 * np.maximum(x @ weights, 0) + 3)):
            one.put(split, np.arange(tokens), rows.astype(np.float32))
    hooks = {"hook": "transformer.h.0.mlp (input)", "target_hook": "transformer.h.0.mlp"}
    writer.finish(**hooks, model="none", model_fingerprint="none")
    return path


@pytest.mark.chaos
def test_a_study_of_transcoders_runs_and_is_reported(study, capsys):
    main(["plan", str(study)])
    recipe = Recipe(latents=64, k=4, tokens=8000, batch=128)
    assert f"{cost(recipe, WIDTH, target_width=OUT).parameters:,}" in capsys.readouterr().out
    main(["run", str(study), "--workers", "1"])
    main(["report", str(study)])

    results = Path("results/small")
    about = json.loads((results / "study.json").read_text())["source"]
    assert (about["hook"], about["target_hook"]) == ("transformer.h.0.mlp (input)", "transformer.h.0.mlp")
    assert (about["width"], about["target_width"]) == (WIDTH, OUT)
    cells = [json.loads(line) for line in (results / "cells.jsonl").read_text().splitlines()]
    assert {cell["state"] for cell in cells} == {"complete"}
    assert all(0.1 < cell["heldout"]["fvu"] < 0.8 for cell in cells)
    store = ActivationStore.open(Path("data/random/activations"))
    x, target = (torch.from_numpy(one.read("held_out", 0, 1024)) for one in (store, store.targets))
    spread = (target - target.mean(0)).square().sum()
    for cell in cells:
        missed = (load_sae(cell["sae"])(x) - target).square().sum()
        assert float(missed / spread) == pytest.approx(cell["heldout"]["fvu"], rel=1e-4)
        assert cell["score"] == cell["heldout"]["fvu"]
    page = (results / "report.html").read_text()
    assert "transformer.h.0.mlp (input)" in page
    assert "of what the transcoders predict" in page

    before = measured()
    assert len(before) == len(cells)
    for file in before:
        file.unlink()
    main(["evaluate", str(study), "--workers", "1"])  # from the transcoders that were kept
    assert measured() == before


def measured() -> dict[Path, str]:
    """What the measurements of quality say, by file."""
    return {file: file.read_text() for file in Path("runs/cells").glob("*/measurements/quality.measure.json")}


def test_inputs_of_one_norm_are_refused_before_anything_runs(study, capsys):
    study.write_text(study.read_text().replace("layers: [none, sparse 2]", "inputs: [centred, unit_norm]"))
    for command in ("plan", "run"):
        with pytest.raises(SystemExit) as ended:
            main([command, str(study)])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        expected = "expected one of centred, uncentred, standardised, since the norm"
        assert f"studies/small.yaml:5: axes.inputs[1]: {expected}" in said
        assert said.count("\n") == 1
