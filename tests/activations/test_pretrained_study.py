"""A study of a model in a folder and a Parquet file, by the source file of docs/pretrained.md, to its tables."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from harness.activations.store import ActivationStore
from harness.cli import main
from harness.files import read_record

from .pretrained_models import WORDS, save_model

DOCS = Path(__file__).parents[2] / "docs/pretrained.md"
SMALLER = {  # than in the docs
    "500_000": "3_000",
    "32_768": "1_000",
    "1024": "64",
    "context: 64": "context: 16\n  window: 1_024",
    "[8, 16, 32]": "[2, 4]",
    "[0, 1, 2]": "[0]",
    "recipe:": "recipe:\n  dead_window: 512\n  lr: 1e-3",
    "share: 0.02": "share: 0.3",
}


@pytest.fixture
def workspace(tmp_path: Path, databases: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the docs, with smaller numbers, beside a small Llama and a Parquet file."""
    source, study = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)[:2]
    for name, content in (("studies/sources/mine.yaml", source), ("studies/mine.yaml", study)):
        for old, new in SMALLER.items():
            content = content.replace(old, new)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    save_model("llama", tmp_path / "models/llama")
    generator = np.random.default_rng(0)
    (tmp_path / "text").mkdir()
    texts = [" ".join(generator.choice(WORDS, length)) for length in generator.integers(5, 60, 300)]
    pl.DataFrame({"content": texts}).write_parquet(tmp_path / "text/some.parquet")
    shutil.copytree(databases, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_of_the_docs_runs_to_its_tables(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", "studies/mine.yaml"])
    assert "no activations yet" in capsys.readouterr().out
    main(["run", "studies/mine.yaml", "--workers", "1"])
    assert "activations mine at model.layers.1: 3,000 + 1,000 tokens" in capsys.readouterr().out
    store = ActivationStore.open(workspace / "data/mine/activations")
    assert (store.manifest["feed"], store.tokens("train"), store.width) == ("stored", 3_000, 16)
    study = read_record(workspace / "results/mine/study.json") or {}
    assert study["source"]["fingerprint"] == store.fingerprint
    cells = (workspace / "results/mine/cells.jsonl").read_text().splitlines()
    assert len(cells) == 2
    source = workspace / "studies/sources/mine.yaml"
    source.write_text(source.read_text().replace("column: content", "column: content\n  seed: 1"))
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "studies/mine.yaml"])
    said = capsys.readouterr().err
    assert "pretrained.text.seed: expected 1, as studies/sources/mine.yaml says, got 0; make them again: " in said
