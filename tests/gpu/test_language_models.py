"""Studies of language models on a GPU: the same figures whether activations were stored or are streamed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.activations.pretrained_models import WORDS, save_model, save_text
from tests.gpu.commands import at_once, device_name, figures, harness, results, workspace

SOURCE = """
kind: pretrained
model: {{name: models/{model}, dtype: {dtype}}}
text: {{{text}, held_out: {{share: 0.2}}}}
activations:
  {{hook: {hook}, context: 16, tokens: 20_000, held_out_tokens: 1_000, window: 3_000, feed: {feed}}}
"""
TRANSCODERS = """
kind: pretrained
model: {name: models/gpt2}
text: {files: text.jsonl, held_out: {share: 0.2}}
activations:
  hook: transformer.h.1.mlp
  side: input
  target: {hook: transformer.h.1.mlp}
  context: 16
  tokens: 20_000
  held_out_tokens: 1_000
  window: 3_000
  feed: stream
"""
STUDY = """
question: Does one more layer help?
source: sources/{source}.yaml
recipe: {{latents: 64, k: 4, tokens: 30_000, batch: 128, dead_window: 512, lr: 4.0e-3}}
axes:
  system:
    settings:
      shallow: {{}}
      dense 2-2: {{layers: dense 2-2}}
      two layers: {{layers: sparse 2}}
      batch top-k: {{sparsifier: batchtopk}}
  precision: [float32, tf32, bfloat16]
seeds: [0]
"""
MODELS = {
    "llama": {"text": "files: text.parquet, column: content", "hook": "model.layers.1", "dtype": "float32"},
    "gpt2": {"text": "files: text.jsonl", "hook": "transformer.h.1", "dtype": "bfloat16"},
}


PREPARED = "gpt2_stored"  # by a command of its own
SOURCES = {"transcoders": TRANSCODERS} | {
    f"{model}_{feed}": SOURCE.format(model=model, feed=feed, **given)
    for model, given in MODELS.items()
    for feed in ("stored", "stream")
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, databases: Path) -> dict[str, Path]:
    """A workspace for each of the sources, in which a study ran. All of them ran at the same time."""
    folder = tmp_path_factory.mktemp("models")
    for model in MODELS:
        save_model(model, folder / model)
    made = {name: workspace_of(folder / f"{name}_root", folder, databases, name) for name in SOURCES}
    at_once(*(partial(whole, root, name) for name, root in made.items()))
    return made


def workspace_of(root: Path, models: Path, databases: Path, name: str) -> Path:
    files = {f"source_{name}": SOURCES[name], name: STUDY.format(source=name)}
    workspace(root, databases, **files)
    (root / "models").symlink_to(models)
    save_text(root / "text.jsonl", documents=3_000)
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, length)) for length in generator.integers(5, 60, 2_000)]
    pl.DataFrame({"content": texts}).write_parquet(root / "text.parquet")
    return root


def whole(root: Path, study: str) -> None:
    if study == PREPARED:
        harness(root, f"prepare studies/sources/{study}.yaml")
    harness(root, f"run studies/{study}.yaml --workers 1")


@pytest.mark.parametrize("model", MODELS)
def test_stored_and_streamed_activations_give_the_same_figures_to_the_bit(
    roots: dict[str, Path], model: str
) -> None:
    names = [f"{model}_{feed}" for feed in ("stored", "stream")]
    shards = [len(list((roots[name] / f"data/{name}/activations").glob("train-*.npy"))) for name in names]
    assert shards == [7, 1]
    stored, streamed = (figures(roots[name], name) for name in names)
    assert len(stored) == 12
    for cell, found in stored.items():
        assert streamed[cell] == found, cell
    curves = [curves_of(roots[name], name) for name in names]
    assert curves[0] == curves[1]


def curves_of(root: Path, study: str) -> list[dict[str, float]]:
    """All points, without the cells' ids, in which sources have a part."""
    lines = (root / f"results/{study}/curves.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "cell"} for line in lines]


@pytest.mark.parametrize("model", MODELS)
def test_loss_recovered_is_measured(roots: dict[str, Path], model: str) -> None:
    for found in figures(roots[f"{model}_stream"], f"{model}_stream").values():
        assert found["ce_loss_with_sae"] > 0
        assert 0 <= found["kl_divergence"] < 10
        assert "ce_loss_increase" in found


def test_transcoders_are_trained_on_a_stream(roots: dict[str, Path]) -> None:
    found = figures(roots["transcoders"], "transcoders")
    assert len(found) == 12
    assert all(0 < one["fvu"] < 1.5 and "ce_loss_with_sae" in one for one in found.values())


def test_the_device_is_named(roots: dict[str, Path]) -> None:
    assert {one["device"] for root in roots.values() for one in results(root)} == {device_name()}
