"""What latents mean, found out on a GPU and once more on a CPU, from the same SAEs."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from tests.activations.pretrained_models import save_model, save_text
from tests.gpu.commands import at_once, device_name, figures, harness, weights, workspace

SOURCE = """
kind: pretrained
model: {name: model}
text: {files: text.jsonl, held_out: {share: 0.3}}
activations:
  {hook: transformer.h.1, context: 32, tokens: 20_000, held_out_tokens: 4_000, window: 8_000, feed: stream}
"""
STUDY = """
question: Are latents of stacked layers as constant?
source: sources/text.yaml
recipe: {latents: 64, k: 4, tokens: 20_000, batch: 128, dead_window: 1_024, lr: 4.0e-3}
axes:
  system:
    settings:
      shallow: {}
      dense 2-2: {layers: dense 2-2}
      two layers: {layers: sparse 2}
      batch top-k: {sparsifier: batchtopk}
seeds: [0, 1]
interpretability: {latents: 32, tokens: 2_000, window: 16}
"""
ROUNDED = {  # figures of latents, and how far a GPU may be from a CPU: a few firings more or less
    "found_again": 0.05,
    "found_again_weighted": 0.05,
    "direction_cosine": 0.02,
    "direction_share": 0.02,
    "shallow_cosine": 0.02,
    "logit_kl": 0.02,
    "latents_dead": 0.04,
    "detection": 0.05,
}


class Interpreted(NamedTuple):
    here: Path
    on_a_cpu: Path  # a copy, in which a CPU interpreted the same SAEs again
    said: str  # by `harness plan --measure` in the end, for more workers than GPUs


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, databases: Path) -> Interpreted:
    """The study's workspaces."""
    root = workspace(tmp_path_factory.mktemp("latents") / "here", databases, source_text=SOURCE, meaning=STUDY)
    save_model("gpt2", root / "model")
    save_text(root / "text.jsonl", documents=1_500)
    harness(root, "run studies/meaning.yaml --workers 1")
    other = shutil.copytree(root, root.with_name("on_a_cpu"))
    shutil.rmtree(other / "runs/meaning.latents")
    (other / "runs/meaning.finished").unlink()
    said, *_ = at_once(
        partial(harness, root, "plan studies/meaning.yaml --measure --workers 2"),
        partial(harness, root, "features studies/meaning.yaml"),
        partial(harness, other, "run studies/meaning.yaml --device cpu", "cpu"),
    )
    return Interpreted(root, other, said)


def test_figures_of_latents_are_those_of_a_cpu_but_for_rounding(ran: Interpreted) -> None:
    here, there = (figures(root, "meaning") for root in (ran.here, ran.on_a_cpu))
    assert here.keys() == there.keys()
    assert weights(ran.here) == weights(ran.on_a_cpu)
    for cell, found in here.items():
        for name, tolerance in ROUNDED.items():
            if name in there[cell]:
                assert found[name] == pytest.approx(there[cell][name], abs=tolerance), (name, cell)
        assert {"found_again", "direction_cosine", "logit_kl", "detection"} <= found.keys()


def test_latents_fire_on_the_same_tokens_but_for_rounding(ran: Interpreted) -> None:
    files = (root / "results/meaning/latents.parquet" for root in (ran.here, ran.on_a_cpu))
    here, there = (pq.read_table(file).to_pandas() for file in files)
    assert here["latent"].equals(there["latent"])
    assert (here["firing_rate"] - there["firing_rate"]).abs().max() < 0.005
    assert (here["direction_cosine"] - there["direction_cosine"]).abs().median() < 1e-3


def test_nulls_are_measured_as_on_a_cpu(ran: Interpreted) -> None:
    files = (root / "results/meaning/study.json" for root in (ran.here, ran.on_a_cpu))
    here, there = (json.loads(file.read_text())["nulls"] for file in files)
    assert [*here] == [*there] == ["neurons", "principal_components"]
    for name, null in here.items():
        ours, theirs = null["figures"], there[name]["figures"]
        for figure in ROUNDED.keys() & theirs.keys():
            assert ours[figure] == pytest.approx(theirs[figure], abs=ROUNDED[figure]), (name, figure)


def test_a_page_of_latents_is_made(ran: Interpreted) -> None:
    assert (ran.here / "results/meaning/features.html").stat().st_size > 10_000


def test_steps_are_timed_for_the_plan(ran: Interpreted) -> None:
    assert "8 done, 0 to run" in ran.said
    assert device_name().lower() in ran.said.lower()
