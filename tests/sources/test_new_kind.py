"""A kind of source that does not exist yet: the example of docs/extending.md, put into a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import harness
from tests.conftest import STUDY, WIDTH

PACKAGE = Path(harness.__file__).parent
SOURCE = f"kind: numpy_file\nfile: rows.npy\nwidth: {WIDTH}\ntokens: 2048\nheld_out_tokens: 1024\n"


def example() -> str:
    """The module, as the docs have it."""
    texts = [path.read_text() for path in sorted((PACKAGE.parent / "docs").rglob("*.md"))]
    (block,) = re.findall(r"```python\n((?:(?!```).)*class NumpyFile\(.*?)```", "".join(texts), re.DOTALL)
    return block


@pytest.fixture
def workspace(tmp_path, databases) -> Path:
    """A copy of the package with one module and one entry more, and a study of two cells on such a source."""
    shutil.copytree(PACKAGE, tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "harness/sources/numpy_file.py").write_text(example())
    kinds = tmp_path / "harness/sources/kinds.py"
    text = kinds.read_text()
    line = "from harness.sources.numpy_file import NumpyFile\nfrom harness.sources.source import Source\n"
    for old, new in (
        ("from harness.sources.source import Source\n", line),
        ("[Docstrings |", "[Docstrings | NumpyFile |"),
    ):
        assert old in text
        text = text.replace(old, new)
    kinds.write_text(text)
    (tmp_path / "studies/sources").mkdir(parents=True)
    (tmp_path / "studies/sources/random.yaml").write_text(SOURCE)
    study = STUDY.lstrip().replace("25_000", "2_048").replace("[1e-3, 4e-3]", "[4e-3]").replace("[0, 1]", "[0]")
    (tmp_path / "studies/small.yaml").write_text(study.replace("tuning_seeds: [2]\n", ""))
    rows = np.random.default_rng(0).standard_normal((3072, WIDTH)).astype(np.float32)
    np.save(tmp_path / "studies/sources/rows.npy", rows)
    shutil.copytree(databases, tmp_path / "runs")
    return tmp_path


def command(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(workspace), "COLUMNS": "200"}
    line = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(line, cwd=workspace, env=environment, capture_output=True, text=True)


@pytest.mark.chaos
def test_one_module_and_one_entry_are_planned_prepared_and_trained(workspace):
    assert "no activations yet" in command(workspace, "plan", "studies/small.yaml").stdout
    done = command(workspace, "run", "studies/small.yaml", "--workers", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "activations random: 3,072 rows of studies/sources/rows.npy" in done.stdout
    assert len((workspace / "results/small/cells.jsonl").read_text().splitlines()) == 2
    source = workspace / "studies/sources/random.yaml"
    source.write_text(SOURCE.replace("2048", "2047"))
    edited = command(workspace, "plan", "studies/small.yaml").stderr
    assert "tokens.train: expected 2047, as studies/sources/random.yaml says, got 2048; make them again" in edited
