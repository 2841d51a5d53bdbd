"""A folder with a small study and activations made of a few random directions; no language model behind them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # two test processes on two cores: more threads only get in each other's way
if shutil.which("nvidia-smi") is None:
    os.environ["TRITON_INTERPRET"] = "1"  # its kernels on a CPU; to be said before anybody imports Triton

import numpy as np
import pytest
from hypothesis import settings

from harness.activations.store_writer import StoreWriter
from tests.sweep.servers import PostgreSQL, binaries

settings.register_profile("suite", deadline=None)  # a busy machine is no failure
settings.load_profile("suite")

WIDTH = 16

SOURCE = """
kind: docstrings
corpus: {packages: [rich]}
language_model: {layers: 1, width: 16, heads: 2, context: 16, tokens: 1000, batch: 4, lr: 1e-3}
activations: {hook: transformer.h.0, tokens: 8192, held_out_tokens: 1024, dtype: float32}
"""

STUDY = """
question: Does one more layer help?
source: sources/random.yaml
recipe:
  latents: 64
  k: 4
  tokens: 25_000
  batch: 128
  dead_window: 1_024
axes:
  layers: [none, sparse 2]
  lr:
    tune: true
    values: [1e-3, 4e-3]
seeds: [0, 1]
tuning_seeds: [2]
"""


def make_workspace(root: Path) -> Path:
    """Write studies/small.yaml, its source and its activations below `root`; returns the study file."""
    (root / "studies" / "sources").mkdir(parents=True)
    (root / "studies" / "sources" / "random.yaml").write_text(SOURCE)
    study = root / "studies" / "small.yaml"
    study.write_text(STUDY.lstrip())
    store = root / "data" / "random" / "activations"
    store.mkdir(parents=True)
    writer = StoreWriter(store, {"train": 8192, "held_out": 1024}, WIDTH, "float32", shard_tokens=3000)
    random = np.random.default_rng(0)
    directions = random.standard_normal((40, WIDTH))
    for split, tokens in writer.tokens.items():
        codes = random.random((tokens, 40)) * (random.random((tokens, 40)) < 0.1)
        writer.put(split, np.arange(tokens), (codes @ directions).astype(np.float32))
    writer.finish(hook="transformer.h.0", model="none", model_fingerprint="none")
    return study


@pytest.fixture
def small_study(tmp_path, monkeypatch) -> Path:
    """The study file, with the current folder as its workspace."""
    monkeypatch.chdir(tmp_path)
    return make_workspace(tmp_path).relative_to(tmp_path)


@pytest.fixture(scope="session")
def databases(tmp_path_factory) -> Path:
    """A folder `runs` with Optuna's and MLflow's databases as they make them: empty, which takes them seconds."""
    from mlflow import MlflowClient
    from optuna.storages import RDBStorage

    from harness.workspace import Workspace

    workspace = Workspace(tmp_path_factory.mktemp("databases"))
    workspace.runs.mkdir()
    RDBStorage(workspace.storage)
    MlflowClient(tracking_uri=workspace.tracking).search_experiments()
    return workspace.runs


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    """A server of its own."""
    if binaries() is None:
        pytest.skip("PostgreSQL's server is not installed: Debian's package `postgresql` has it")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are for one user alone
        server = PostgreSQL(Path(folder))
        yield server
        if server.running():
            server.stop()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, databases) -> Path:
    """A workspace in which the small study ran to its end without any disturbance."""
    from harness.cli import main

    root = tmp_path_factory.mktemp("undisturbed")
    make_workspace(root)
    shutil.copytree(databases, root / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        main(["run", "studies/small.yaml", "--workers", "1"])
    return root
