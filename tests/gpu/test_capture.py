"""Activations captured on a GPU: to the bit those of the model there, and but for rounding those of a CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.activations.capture_windows import capture_windows
from harness.activations.documents import Split
from harness.activations.store import ActivationStore
from harness.activations.windows import WindowMaker
from tests.activations.pretrained_models import ARCHITECTURES, save_model, save_text, source_file
from tests.activations.test_pretrained import LAYOUTS, hidden
from tests.gpu.commands import ON

ROUNDED = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}  # of the root mean square
CASES = [
    ("gpt2", "float32", "packed", 64),
    ("gpt2", "bfloat16", "padded on the left", 5),
    ("neox", "float16", "one document each", 64),
    ("llama", "float32", "padded on the left", 64),
    ("llama", "bfloat16", "packed, BOS in every context", 5),
    ("llama", "float16", "packed", 64),
    ("gemma", "bfloat16", "one document each", 64),
    ("gemma", "float32", "padded on the left", 5),
    ("qwen", "float32", "one document each", 5),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: save_model(name, root / name) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("text") / "text.jsonl")


@pytest.mark.parametrize(("name", "dtype", "layout", "batch"), CASES)
def test_captured_is_what_the_model_gives_there(
    models: dict[str, Path], text: Path, tmp_path: Path, name: str, dtype: str, layout: str, batch: int
) -> None:
    asked = (f"name: {models[name]}", f"name: {models[name]}, dtype: {dtype}")
    more = {"contexts_per_pass": batch, "dtype": "float32", **LAYOUTS[layout]}
    source = source_file(tmp_path, models[name], text, ARCHITECTURES[name].block, asked, **more)
    capture_windows(source, tmp_path / "out")
    store = ActivationStore.open(tmp_path / "out")
    makers = {device: WindowMaker.open(tmp_path / "out", torch.device(device)) for device in (ON, "cpu")}
    model = makers[ON].model
    for split, windows in (("train", 3), ("held_out", 1)):
        rows = store.read(split, 0, store.tokens(split))
        contexts = [makers[ON].reader(split).window(index) for index in range(windows)]
        assert np.array_equal(rows, np.concatenate([hidden(model, one, batch) for one in contexts]))
        assert np.array_equal(rows, made(makers[ON], split, windows))
        on_a_cpu = made(makers["cpu"], split, windows)
        assert np.sqrt(np.square(rows - on_a_cpu).mean() / np.square(on_a_cpu).mean()) < ROUNDED[dtype]


def made(maker: WindowMaker, split: Split, windows: int) -> np.ndarray:
    """All tokens of a split, the last window made first."""
    found = [torch.as_tensor(maker.window(split, index)[0]) for index in reversed(range(windows))]
    return torch.cat(found[::-1]).cpu().numpy()


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="needs accelerate")
def test_a_model_that_transformers_places_gives_the_same(
    models: dict[str, Path], text: Path, tmp_path: Path
) -> None:
    found = []
    for more in ("", ", device_map: auto"):
        folder = tmp_path / ((more and "placed") or "whole")
        folder.mkdir()
        asked = (f"name: {models['llama']}", f"name: {models['llama']}{more}")
        source = source_file(folder, models["llama"], text, "model.layers.1", asked, dtype="float32")
        capture_windows(source, folder / "out")
        found.append(ActivationStore.open(folder / "out").read("train", 0, 600))
    assert np.array_equal(*found)
