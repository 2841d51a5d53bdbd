"""What the hook reads, and what ends up in the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from harness.activations.capture import capture_activations
from harness.activations.documents import read_documents
from harness.activations.hook import Hook, hidden_states
from harness.activations.language_model import load_tokenizer
from harness.activations.pretrained_model import load_model
from harness.activations.store import ActivationStore
from harness.activations.tokens import packed_contexts
from harness.errors import UserError
from harness.sources.docstrings import Docstrings

from .conftest import Folders, MakeSource, snapshot


def test_the_hook_reads_the_hidden_state_and_nothing_after_it_runs(folders: Folders) -> None:
    model, _ = load_model(folders.language_model)
    ids = torch.arange(64).reshape(2, 32)
    expected = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
    ran: list[str] = []
    for name in ("transformer.h.1", "transformer.ln_f", "lm_head"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    (states,) = hidden_states(model, [Hook(model.get_submodule("transformer.h.0"))], ids)
    assert torch.equal(states, expected)
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
    assert torch.equal(hidden_states(model, [Hook(model.pair)], torch.zeros(1, 2))[0], torch.ones(1, 2))


def test_the_store_holds_the_rows_of_the_text_in_another_order(source: Docstrings, folders: Folders) -> None:
    model, tokenizer = load_model(folders.language_model)
    ids = packed_contexts(read_documents(folders.corpus, "held_out"), tokenizer, 32, 1_500, 0)
    (states,) = hidden_states(model, [Hook(model.get_submodule("transformer.h.0"))], torch.from_numpy(ids))
    rows = states.numpy()[ids != tokenizer.eos_token_id].astype(np.float16)
    kept = np.load(folders.activations / "held_out-00000.npy")
    assert not np.array_equal(kept, rows)
    assert np.array_equal(kept[np.lexsort(kept.T)], rows[np.lexsort(rows.T)])


def test_the_manifest_says_what_was_done(source: Docstrings, folders: Folders) -> None:
    manifest = ActivationStore.open(folders.activations).manifest
    assert manifest["tokens"] == {"train": 6_000, "held_out": 1_500}
    assert manifest["hook"] == source.activations.hook
    assert manifest["dtype"] == "float16"
    assert all(count > 0 for count in manifest["special_left_out"].values())


def test_a_second_capture_has_the_same_fingerprint(source: Docstrings, folders: Folders, tmp_path: Path) -> None:
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
    make_source: MakeSource, folders: Folders, change: tuple[str, str], message: str
) -> None:
    before = snapshot(folders.activations)
    with pytest.raises(UserError, match=message):
        capture_activations(make_source(change), folders.corpus, folders.language_model, folders.activations)
    assert snapshot(folders.activations) == before
    assert not list(folders.activations.parent.glob(".*.*"))


def test_no_model_there(source: Docstrings, folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a language model, found no config\.json with \*\.safetensors"):
        capture_activations(source, folders.corpus, tmp_path / "none", tmp_path / "out")


def test_activations_of_another_model_are_refused(folders: Folders, tmp_path: Path) -> None:
    store = ActivationStore.open(folders.activations)
    store.check_model(folders.language_model)
    other = shutil.copytree(folders.language_model, tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"expected activations of the model in .*other, got those of another"):
        store.check_model(other)


@pytest.fixture(scope="session")
def llama(source: Docstrings, folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another architecture, of the sizes that the tiny source says."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = load_tokenizer(source, folders.corpus)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **sizes)).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


HOOKS = {
    "model.layers": "a module that is never called",
    "model": "BaseModelOutputWithPast",
    "model.rotary_emb": "[1, 32, 8]",
}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_gives_no_activations_is_one_line(
    make_source: MakeSource, folders: Folders, llama: Path, tmp_path: Path, hook: str
) -> None:
    with pytest.raises(UserError) as error:
        capture_activations(make_source(("transformer.h.0", hook)), folders.corpus, llama, tmp_path / "out")
    assert str(error.value).endswith(
        "tiny.yaml:14: activations.hook: expected a module whose output is a tensor [2, 32, 16] "
        f"of [contexts, context, width], got {HOOKS[hook]}"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("hook", "width"), [("model.layers.0.mlp.up_proj", 32), ("lm_head", 400)])
def test_a_hook_of_another_width_is_one_line(
    make_source: MakeSource, folders: Folders, llama: Path, tmp_path: Path, hook: str, width: int
) -> None:
    line = rf"activations\.width: expected {width}, the width of the output of {hook}, got 16$"
    with pytest.raises(UserError, match=line):
        capture_activations(make_source(("transformer.h.0", hook)), folders.corpus, llama, tmp_path / "out")


def test_a_hook_of_another_architecture_is_captured(
    make_source: MakeSource, folders: Folders, llama: Path, tmp_path: Path
) -> None:
    source = make_source(("transformer.h.0", "model.layers.0"))
    assert capture_activations(source, folders.corpus, llama, tmp_path / "out")["width"] == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("width: 16", "width: 8"),
            r"yaml:7: language_model\.width: expected 16, the width of the model in .*, got 8$",
        ),
        (
            ("context: 32", "context: 64"),
            r"yaml:9: language_model\.context: expected at most the 32 positions of the model in .*, got 64$",
        ),
    ],
)
def test_a_model_of_other_sizes_is_one_line(
    make_source: MakeSource, folders: Folders, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        capture_activations(make_source(change), folders.corpus, folders.language_model, tmp_path / "out")


def without_end_of_text(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in settings.items() if name != "eos_token"}))


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def with_torn_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"torn")


def with_another_configuration(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_end_of_text, "eos_token: expected a tokenizer with one, to stand between documents"),
        (without_tokenizer, "expected its tokenizer, found none with a vocabulary"),
        (with_torn_weights, "expected a causal language model: "),
        (with_another_configuration, "expected a causal language model: "),
    ],
)
def test_a_model_that_cannot_be_used_is_one_line(
    source: Docstrings, folders: Folders, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    model = shutil.copytree(folders.language_model, tmp_path / "model")
    damage(model)
    with pytest.raises(UserError) as error:
        capture_activations(source, folders.corpus, model, tmp_path / "out")
    assert str(error.value).startswith(f"{model}: {message}")
    assert "\n" not in str(error.value)


VALUES = {
    float("nan"): "the value is nan, which no dtype mends",
    float("inf"): "the value is inf, which no dtype mends",
    1e5: "float16 cannot hold the value 100000; expected float32",
}


@pytest.mark.parametrize("value", VALUES)
def test_a_value_that_cannot_be_kept_is_named_with_its_token(
    make_source: MakeSource, folders: Folders, tmp_path: Path, value: float
) -> None:
    source = make_source(("transformer.h.0", "transformer.wte"))  # attention would spread it over the context
    model, tokenizer = load_model(folders.language_model)
    ids = packed_contexts(read_documents(folders.corpus, "train"), tokenizer, 32, 6_000, 0)
    context, position = 3, 5
    with torch.no_grad():
        model.transformer.wte.weight[ids[context, position]] = value
    folder = shutil.copytree(folders.language_model, tmp_path / "model")
    model.save_pretrained(folder)
    with pytest.raises(UserError) as error:
        capture_activations(source, folders.corpus, folder, tmp_path / "out")
    first = np.argwhere(ids == ids[context, position])[0]
    token = tokenizer.decode([int(ids[context, position])])
    assert str(error.value).endswith(
        f"activations.dtype: train, token {token!r} at position {first[1]} of context {first[0]}, "
        f"at transformer.wte: {VALUES[value]}"
    )
