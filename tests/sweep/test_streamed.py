"""Cells on activations that a language model makes beside them: the same as on those that were stored before."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.activations.store import ActivationStore
from harness.cli import main
from harness.sources.kinds import load_source
from harness.sources.prepare import prepare_missing
from harness.study.recipe import Recipe
from harness.training.cohort import Cohort, Stopped
from harness.training.data import Batches, Data
from harness.workers.cell_folder import CellFolder
from harness.workers.run_cell import run_cell
from harness.workers.worker import open_stream
from tests.activations.pretrained_models import save_model, save_text
from tests.sweep.test_chaos import Size, kill_again_and_again, trained_saes
from tests.sweep.test_sweep import FILES

SOURCE = """
kind: pretrained
model: {{name: {model}}}
text: {{files: {text}, held_out: {{share: 0.2}}}}
activations:
  {{hook: transformer.h.1, context: 16, tokens: 20_000, held_out_tokens: 1_000, window: 3_000, feed: {feed}}}
"""
STUDY = """
question: Does one more layer help?
source: sources/{feed}.yaml
recipe: {{latents: 64, k: 4, tokens: 30_000, batch: 128, dead_window: 512}}
axes:
  layers: [none, sparse 2]
  lr: [1.0e-3, 4.0e-3]
seeds: [0, 1]
"""
SWEEP = Size(["none", "sparse 2"], [1e-3, 4e-3], seeds=2, tokens=30_000, kills=10, pause=0.5)
RECIPE = Recipe(latents=32, k=3, tokens=30_000, batch=128, dead_window=512, seed=1)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A workspace with two sources that say the same, but for how activations are fed."""
    save_model("gpt2", tmp_path / "model")
    save_text(tmp_path / "text.jsonl", documents=3_000)
    monkeypatch.chdir(tmp_path)
    Path("studies/sources").mkdir(parents=True)
    for feed in ("stored", "stream"):
        text = SOURCE.format(model=tmp_path / "model", text=tmp_path / "text.jsonl", feed=feed)
        Path(f"studies/sources/{feed}.yaml").write_text(text)
        Path(f"studies/{feed}.yaml").write_text(STUDY.format(feed=feed).lstrip())
    return tmp_path


def prepared(feed: str) -> Path:
    source = load_source(Path(f"studies/sources/{feed}.yaml"))
    prepare_missing(source, Path("data"), Path("results"), print)
    return Path("data", feed, "activations")


def train(name: str, data: Data, recipes: dict[str, Recipe], stop_at: int | None = None) -> dict[str, str]:
    """Train cells as a worker does; how each of them ended."""
    ends: dict[str, str] = {}
    cells = {one: run_cell(Path(name, one), recipe, lambda: data) for one, recipe in recipes.items()}
    cohort = Cohort(cells, ends.__setitem__)

    def beat() -> None:
        if cohort.waiting and min(cohort.waiting.values()) == stop_at:
            raise Stopped

    batches = Batches(lambda: data, max(recipes.values(), key=lambda recipe: recipe.steps))
    cohort.train(batches.read, 1e9, beat, batches.centred, batches.steps)
    return ends


def results(name: str, cells: dict[str, Recipe]) -> dict[str, dict]:
    found = {one: CellFolder(Path(name, one)) for one in cells}
    return {one: {**folder.result(), "seconds": None, "curve": folder.points()} for one, folder in found.items()}


def test_cells_on_a_stream_are_those_on_a_store_bit_for_bit_also_when_they_resume(root):
    cells = {"one": RECIPE, "deep": replace(RECIPE, layers="sparse 2", sparsifier="batchtopk", tokens=20_000)}
    cpu = torch.device("cpu")
    stored, streamed = prepared("stored"), prepared("stream")
    assert len(list(stored.glob("train-*.npy"))) == 7
    assert len(list(streamed.glob("train-*.npy"))) == 1
    assert ActivationStore.open(streamed).tokens("train") == 20_000
    assert set(train("stored", Data(stored, cpu), cells).values()) == {"done"}
    for stop_at in (40, 160):  # in the second window, and in the second epoch
        ends = train("streamed", Data(streamed, cpu, open_stream), cells, stop_at)
        assert ends["one"] == "stopped"
    train("streamed", Data(streamed, cpu, open_stream), cells)
    assert results("streamed", cells) == results("stored", cells)
    saes = {feed: sorted(Path(feed).glob("*/sae/sae.safetensors")) for feed in ("stored", "streamed")}
    assert [file.read_bytes() for file in saes["stored"]] == [file.read_bytes() for file in saes["streamed"]]


@pytest.mark.chaos
def test_ten_kills_in_a_streamed_sweep_leave_the_tables_of_an_undisturbed_one(root, databases, monkeypatch):
    for name in ("undisturbed", "disturbed"):
        shutil.copytree(root / "studies", root / name / "studies")
        shutil.copytree(databases, root / name / "runs")
        shutil.copy(root / "studies" / "stream.yaml", root / name / "studies" / "small.yaml")
    monkeypatch.chdir(root / "undisturbed")
    main(["run", "studies/small.yaml", "--workers", "2"])
    undisturbed = {name: Path("results/small", name).read_bytes() for name in FILES}
    saes = trained_saes()
    monkeypatch.chdir(root / "disturbed")
    assert kill_again_and_again(SWEEP, root / "said") == SWEEP.kills
    assert {name: Path("results/small", name).read_bytes() for name in FILES} == undisturbed
    assert trained_saes() == saes

    shutil.copytree(root / "studies", root / "stored" / "studies")
    shutil.copytree(databases, root / "stored" / "runs")
    monkeypatch.chdir(root / "stored")
    main(["run", "studies/stored.yaml", "--workers", "2"])
    cells = [json.loads(line) for line in Path("results/stored/cells.jsonl").read_text().splitlines()]
    others = [json.loads(line) for line in undisturbed["cells.jsonl"].splitlines()]
    assert [(cell["arm"], cell["seed"], cell["heldout"]) for cell in cells] == [
        (cell["arm"], cell["seed"], cell["heldout"]) for cell in others
    ]
    assert len(cells) == SWEEP.cells
