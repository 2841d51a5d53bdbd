"""The text that is kept with activations, and what SAEs do to the language model, from capture to tables."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional

from harness import load_sae
from harness.activations.capture import capture_activations
from harness.activations.documents import read_documents
from harness.activations.held_out_text import HeldOutText
from harness.activations.pretrained_model import load_model
from harness.activations.store import ActivationStore
from harness.activations.tokens import packed_contexts
from harness.analysis.tables import make_tables
from harness.cli import main
from harness.errors import UserError
from harness.evaluation import loss_recovered
from harness.evaluation.language_model import open_run
from harness.evaluation.measurements import measurements
from harness.metrics import METRICS
from harness.sources.docstrings import Docstrings
from harness.study.recipe import Recipe
from harness.training.cohort import Cohort
from harness.training.data import open_data
from harness.workers.cell_folder import CellFolder
from harness.workers.measure_cell import measure_cell
from harness.workers.run_cell import run_cell

from .conftest import Folders, MakeSource

NAMES = {metric.name for metric in METRICS if metric.measured_on == "text"}
STUDY = """
question: What do two SAEs do to a language model?
source: sources/tiny.yaml
recipe: {latents: 64, k: 4, tokens: 4_096, batch: 256, dead_window: 1_024, lr: 4.0e-3}
axes: {layers: [none, sparse 2]}
seeds: [0]
"""


def test_as_many_contexts_are_kept_as_have_one_in_16_tokens() -> None:
    kept = np.arange(96).reshape(24, 4) % 4 != 0  # three tokens of each context
    assert len(HeldOutText(np.zeros((24, 4), np.int64), kept).head().ids) == 2  # 72 / 16 = 4.5 tokens
    one = HeldOutText(np.zeros((1, 4), np.int64), kept[:1], kept[:1]).head()
    assert np.array_equal(one.mask, kept[:1])


def test_the_model_runs_on_the_held_out_text(folders: Folders) -> None:
    """Against passes of our own over all of it."""
    run = open_run(str(folders.activations), "cpu")
    model, tokenizer = load_model(folders.language_model)
    ids = torch.from_numpy(packed_contexts(read_documents(folders.corpus, "held_out"), tokenizer, 32, 1_500, 0))
    kept = ids != tokenizer.eos_token_id
    contexts = int((kept.sum(1).cumsum(0) < 1_500 / 16).sum()) + 1
    ids, kept = ids[:contexts], kept[:contexts]
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
    assert torch.equal(run.alone.inputs, out.hidden_states[1][kept])
    losses = functional.cross_entropy(out.logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    assert run.alone.loss == pytest.approx(float(losses[kept[:, :-1]].mean()), abs=1e-5)
    assert ActivationStore.open(folders.activations).manifest["text"]["tokens"] == int(kept.sum())


def test_a_transcoder_replaces_what_it_predicts(make_source: MakeSource, folders: Folders, tmp_path: Path) -> None:
    change = "hook: transformer.h.1.mlp\n  side: input\n  target: {hook: transformer.h.1.mlp}"
    shutil.copytree(folders.language_model, tmp_path / "language_model")
    out = tmp_path / "activations"
    capture_activations(
        make_source(("hook: transformer.h.0", change)), folders.corpus, tmp_path / "language_model", out
    )
    run = open_run(str(out), "cpu")
    model, _ = load_model(folders.language_model)
    mlp = model.get_submodule("transformer.h.1.mlp")
    found = loss_recovered.measure(mlp, run)
    assert found["ce_loss_with_sae"] == pytest.approx(run.alone.loss, abs=1e-6)
    assert found["kl_divergence"] == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for parameter in mlp.c_proj.parameters():
            parameter.zero_()
    assert loss_recovered.measure(mlp, run)["ce_loss_with_sae"] == run.loss_with_zeros != run.alone.loss


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("results/small/cells.jsonl").read_text().splitlines()]


@pytest.mark.chaos
def test_every_kept_sae_is_measured_and_an_edit_measures_again_without_training(
    source: Docstrings,
    folders: Folders,
    databases: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("studies/sources").mkdir(parents=True)
    shutil.copytree(databases, "runs")
    shutil.copy(source.path, "studies/sources/tiny.yaml")
    study = Path("studies/small.yaml")
    study.write_text(STUDY.lstrip())
    for folder in folders:
        shutil.copytree(folder, Path("data/tiny") / folder.name)
    main(["run", str(study), "--workers", "1"])
    run = open_run("data/tiny/activations", "cpu")
    before = rows()
    for row in before:
        assert row["heldout"].keys() >= NAMES
        expected = loss_recovered.measure(load_sae(row["sae"]), run)
        assert {name: row["heldout"][name] for name in NAMES} == pytest.approx(expected, abs=1e-5)
    make_tables(Path("results/small"))
    effects = pl.read_parquet("results/small/tables/effects.parquet")
    assert effects["loss_recovered_points"].null_count() == 0

    trained = {path: path.read_bytes() for path in Path("runs/cells").glob("*/result.json")}
    files = {path: path.stat().st_mtime_ns for path in Path("runs/cells").glob("*/measurements/*.json")}
    manifest = Path("data/tiny/activations/manifest.json")
    about = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(about | {"text": about["text"] | {"fingerprint": "another text"}}))
    main(["evaluate", str(study), "--workers", "1"])
    assert rows() == before
    assert {path: path.read_bytes() for path in trained} == trained
    changed = {path.name for path, time in files.items() if path.stat().st_mtime_ns != time}
    assert changed == {"loss_recovered.measure.json"}


def test_without_its_model_an_sae_has_its_other_figures(folders: Folders, tmp_path: Path) -> None:
    store = shutil.copytree(folders.activations, tmp_path / "activations")
    data, recipe = open_data(str(store), "cpu"), Recipe(latents=32, k=4, tokens=256, batch=128, dead_window=128)
    asked = measurements(data.fingerprint, ActivationStore.open(store).text_fingerprint)
    assert {one.on for one in asked} == {"activations", "text"}
    folder = CellFolder(tmp_path / "cell")
    cell = run_cell(
        folder.path, recipe, lambda: data, measurements=asked, language_model=partial(open_run, str(store), "cpu")
    )
    Cohort({"cell": cell}).train(lambda step: data.read(recipe, step), 1e9, centred=data.centred)
    outcome = folder.outcome(asked, recipe)
    assert outcome is not None
    assert {*outcome["not_measured"]} == NAMES
    assert outcome["heldout"]["fvu"] == outcome["score"]
    (lacking,) = folder.stale(asked, recipe)
    assert "language_model: expected a language model, found no config.json" in folder.why_not_measured(lacking)

    shutil.copytree(folders.language_model, tmp_path / "language_model")
    again = measure_cell(
        folder.path, recipe, lambda: data, asked, language_model=partial(open_run, str(store), "cpu")
    )
    assert again == "done"
    assert not folder.stale(asked, recipe)
    weights = tmp_path / "language_model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    open_run.cache_clear()
    with pytest.raises(UserError, match="expected activations of the model in"):
        open_run(str(store), "cpu")


def test_a_store_without_text_is_refused_beside_its_model(source: Docstrings, folders: Folders) -> None:
    store = ActivationStore.open(folders.activations)
    source.check(store)
    store.manifest.pop("text")
    with pytest.raises(UserError, match="expected activations with the held-out text beside them"):
        source.check(store)
