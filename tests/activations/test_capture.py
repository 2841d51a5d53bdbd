"""What the hook reads, and what ends up in the store."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from harness.activations.capture import capture_activations, hidden_states, load_model
from harness.activations.documents import read_documents
from harness.activations.store import ActivationStore
from harness.activations.tokens import packed_contexts
from harness.errors import UserError
from harness.study.source import Source, SourceFolders

from .conftest import MakeSource, snapshot


def test_the_hook_reads_the_hidden_state_and_nothing_after_it_runs(folders: SourceFolders) -> None:
    model, _ = load_model(folders.language_model)
    ids = torch.arange(64).reshape(2, 32)
    expected = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
    ran: list[str] = []
    for name in ("transformer.h.1", "transformer.ln_f", "lm_head"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    assert torch.equal(hidden_states(model, model.get_submodule("transformer.h.0"), ids), expected)
    assert not ran


def test_the_hook_reads_the_first_of_a_tuple() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return x + 1, None

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
            return SimpleNamespace(use_cache=use_cache, pair=self.pair(input_ids))

    model = Model()
    assert torch.equal(hidden_states(model, model.pair, torch.zeros(1, 2)), torch.ones(1, 2))


def test_the_store_holds_the_rows_of_the_text_in_another_order(source: Source, folders: SourceFolders) -> None:
    model, tokenizer = load_model(folders.language_model)
    ids = packed_contexts(read_documents(folders.corpus, "held_out"), tokenizer, 32, 1_500, 0)
    states = hidden_states(model, model.get_submodule("transformer.h.0"), torch.from_numpy(ids))
    rows = states.numpy()[ids != tokenizer.eos_token_id].astype(np.float16)
    kept = np.load(folders.activations / "held_out-00000.npy")
    assert not np.array_equal(kept, rows)
    assert np.array_equal(kept[np.lexsort(kept.T)], rows[np.lexsort(rows.T)])


def test_the_manifest_says_what_was_done(source: Source, folders: SourceFolders) -> None:
    manifest = ActivationStore.open(folders.activations).manifest
    assert manifest["tokens"] == {"train": 6_000, "held_out": 1_500}
    assert manifest["hook"] == source.activations.hook
    assert manifest["dtype"] == "float16"
    assert all(count > 0 for count in manifest["special_left_out"].values())


def test_a_second_capture_has_the_same_fingerprint(source: Source, folders: SourceFolders, tmp_path: Path) -> None:
    again = capture_activations(source, folders.corpus, folders.language_model, tmp_path / "again")
    assert again["fingerprint"] == ActivationStore.open(folders.activations).fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("h.0", "h.7"), r"yaml:14: activations\.hook: no module 'transformer\.h\.7' in the model; did you mean "),
        (("transformer.h.0", "transfomer.h.1"), r"no module 'transfomer\.h\.1'.*'transformer\.h\.1'"),
        (
            ("tokens: 6_000", "tokens: 9_000_000"),
            r":15: activations\.tokens: expected at most [\d,]+, .* got 9,000,000$",
        ),
        (("1_500", "9_000_000"), r":16: activations\.held_out_tokens: expected at most [\d,]+, .* got 9,000,000$"),
    ],
)
def test_errors_name_the_line_and_leave_the_old_store(
    make_source: MakeSource, folders: SourceFolders, change: tuple[str, str], message: str
) -> None:
    before = snapshot(folders.activations)
    with pytest.raises(UserError, match=message):
        capture_activations(make_source(change), folders.corpus, folders.language_model, folders.activations)
    assert snapshot(folders.activations) == before
    assert not list(folders.activations.parent.glob(".*.*"))


def test_no_model_there(source: Source, folders: SourceFolders, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a language model, found no config\.json with \*\.safetensors"):
        capture_activations(source, folders.corpus, tmp_path / "none", tmp_path / "out")


def test_activations_of_another_model_are_refused(folders: SourceFolders, tmp_path: Path) -> None:
    store = ActivationStore.open(folders.activations)
    store.check_model(folders.language_model)
    other = shutil.copytree(folders.language_model, tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"expected activations of the model in .*other, got those of another"):
        store.check_model(other)
