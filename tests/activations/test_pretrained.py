"""Captured activations are those of an independent forward pass, to the bit, for any architecture and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.activations.capture_windows import capture_windows
from harness.activations.contexts import WindowOfContexts
from harness.activations.store import ActivationStore
from harness.activations.windows import WindowMaker

from .pretrained_models import ARCHITECTURES, save_model, save_text, source_file


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model of each architecture; tests only read them."""
    root = tmp_path_factory.mktemp("models")
    return {name: save_model(name, root / name) for name in ARCHITECTURES}


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("text") / "text.jsonl")


LAYOUTS = {
    "packed": {},
    "packed, never a BOS": {"bos": "never", "skip_special": "false"},
    "packed, BOS in every context": {"bos": "every_context", "skip_first": 2},
    "one document each": {"pack": "false", "skip_special": "false"},
    "padded on the left": {"pack": "false", "padding": "left", "skip_first": 1},
}
CASES = [  # each architecture at each batch size and in each layout, not all at once
    (name, (1, 5, 64)[(row + column) % 3], layout)
    for row, name in enumerate(ARCHITECTURES)
    for column, layout in enumerate(LAYOUTS)
    if name != "qwen" or "every" not in layout  # it has no BOS
]


@pytest.mark.parametrize(("name", "batch", "layout"), CASES)
def test_captured_is_an_independent_forward_pass_to_the_bit(
    models: dict[str, Path], text: Path, tmp_path: Path, name: str, batch: int, layout: str
) -> None:
    hook = ARCHITECTURES[name].block
    more = {"contexts_per_pass": batch, "dtype": "float32", **LAYOUTS[layout]}
    source = source_file(tmp_path, models[name], text, hook, **more)
    manifest = capture_windows(source, tmp_path / "out")
    assert manifest["tokens"] == {"train": 600, "held_out": 100}
    store = ActivationStore.open(tmp_path / "out")
    maker = WindowMaker.open(tmp_path / "out", torch.device("cpu"))
    model = AutoModelForCausalLM.from_pretrained(models[name], dtype=torch.float32).eval()
    for split, windows in (("train", 3), ("held_out", 1)):
        expected = [hidden(model, maker.reader(split).window(index), batch) for index in range(windows)]
        rows = store.read(split, 0, store.tokens(split))
        assert np.array_equal(rows, np.concatenate(expected))
        assert rows.std() > 0.1


def hidden(model: torch.nn.Module, contexts: WindowOfContexts, batch: int) -> np.ndarray[Any, Any]:
    """`output_hidden_states` after the second block, at the kept positions, on the model's device."""
    ids = torch.from_numpy(contexts.ids).to(model.device)
    mask = torch.ones_like(ids) if contexts.mask is None else torch.from_numpy(contexts.mask).long().to(ids.device)
    rows = []
    for start in range(0, len(ids), batch):
        here = slice(start, start + batch)
        given = {}
        if not mask[here].all():
            given["attention_mask"] = mask[here]
            if not mask[here, 0].all():
                given["position_ids"] = (mask[here].cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            states = model(ids[here], output_hidden_states=True, **given).hidden_states[2]
        rows.append(states.float().cpu().numpy()[contexts.kept[here]])
    return np.concatenate(rows)


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("name", ["gpt2", "neox", "gemma"])
def test_padding_changes_no_activation(
    models: dict[str, Path], text: Path, tmp_path: Path, name: str, padding: str
) -> None:
    """Each document alone, without padding, gives the same numbers but for rounding."""
    layout = {"pack": "false", "padding": padding, "dtype": "float32", "contexts_per_pass": 16}
    source = source_file(tmp_path, models[name], text, ARCHITECTURES[name].block, **layout)
    capture_windows(source, tmp_path / "out")
    maker = WindowMaker.open(tmp_path / "out", torch.device("cpu"))
    contexts = maker.reader("held_out").window(0)
    assert contexts.mask is not None
    assert not contexts.mask.all()
    rows, model = [], maker.model
    for ids, mask, kept in zip(*contexts, strict=True):
        with torch.no_grad():
            states = model(torch.from_numpy(ids[mask])[None], output_hidden_states=True).hidden_states[2][0]
        rows.append(states.numpy()[kept[mask]])
    (made,) = maker.window("held_out", 0)
    assert np.allclose(made, np.concatenate(rows), atol=1e-4)
