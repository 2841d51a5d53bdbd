"""Whatever does not fit a pretrained model gets one line that names the key, and nothing is left behind."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.activations.capture_windows import capture_windows
from harness.activations.windows import WindowMaker
from harness.errors import UserError

from .pretrained_models import letters, save_model, save_text, source_file

HOOK = "model.layers.1"


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("text") / "text.jsonl")


def error_of(folder: Path, model: Path, text: Path, *changes: tuple[str, str], **more: object) -> str:
    """What capturing says."""
    source = source_file(folder, model, text, str(more.pop("hook", HOOK)), *changes, **more)
    with pytest.raises(UserError) as error:
        source.steps()[0].make(folder / "data")
    assert not (folder / "data/activations").exists()
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{folder / 'mine.yaml'}:")


NO_ACTIVATIONS = {
    "model.layers": "a module that is never called",
    "model": "BaseModelOutputWithPast",
    "model.rotary_emb": "[1, 12, 8]",
}


@pytest.mark.parametrize("hook", NO_ACTIVATIONS)
def test_a_hook_without_activations(llama: Path, text: Path, tmp_path: Path, hook: str) -> None:
    assert error_of(tmp_path, llama, text, hook=hook) == (
        "5: activations.hook: expected a module whose output is a tensor [2, 12, 16] of [contexts, context, "
        f"width], got {NO_ACTIVATIONS[hook]}"
    )


ASKED: dict[str, tuple[dict[str, object], str]] = {
    "no such hook": (
        {"hook": "model.layer.1"},
        "5: activations.hook: no module 'model.layer.1' in the model; did you mean 'model.layers.1' or ",
    ),
    "no such target": (
        {"target": "{hook: model.layers.9}"},
        "activations.target.hook: no module 'model.layers.9' ",
    ),
    "another width": (
        {"width": 24},
        "activations.width: expected 16, the width of the output of model.layers.1, got 24",
    ),
    "a module of another width": (
        {"hook": "lm_head"},
        "activations.width: expected 300, the width of the output of lm_head, got 16",
    ),
    "another width of the target": (
        {"target": "{hook: model.layers.0.mlp, width: 24}"},
        "activations.target.width: expected 16, the width of the output of model.layers.0.mlp, got 24",
    ),
    "too long a context": (
        {"context": 40},
        "6: activations.context: expected at most 32, the positions of the model, got 40",
    ),
    "too little text": ({"tokens": 90_000}, "7: activations.tokens: expected at most "),
    "too little text for a stream": (
        {"tokens": 90_000, "feed": "stream"},
        "7: activations.tokens: expected at most ",
    ),
    "too little disk": (
        {"disk": "10KB"},
        "activations.disk: expected at least 22.4KB for this many tokens, or feed: stream; got 10KB",
    ),
    "no accelerate": ({}, "2: model.device_map: expected nothing, or the package for it: pip install accelerate"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_the_model_or_the_text_does_not_have(llama: Path, text: Path, tmp_path: Path, case: str) -> None:
    more, line = ASKED[case]
    changes = [("name: ", "device_map: auto, name: ")] if case == "no accelerate" else []
    assert line in error_of(tmp_path, llama, text, *changes, **more)


def bin_files_only(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def no_eos(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "eos_token"}))


def torn(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"torn")


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def code_of_its_own(folder: Path) -> None:
    file = folder / "config.json"
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Mine"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    (folder / "mine.py").write_text("raise SystemExit('run')\n")


def another_tokenizer(folder: Path) -> None:
    no_tokenizer(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 100}))
    weights = load_file(folder / "model.safetensors")
    short = {name: w[:100].clone() if w.shape[0] == 300 else w for name, w in weights.items()}
    save_file(short, folder / "model.safetensors", {"format": "pt"})
    letters().save_pretrained(folder)


DAMAGE: dict[Callable[[Path], None], str] = {
    bin_files_only: "2: model.name: expected a model with weights in *.safetensors; {model} has none, only "
    "pytorch_model.bin, which is a pickle and may run code",
    no_eos: "activations.pack: expected false: the tokenizer has no EOS token to stand between documents",
    torn: "{model}: expected a causal language model: ",
    no_tokenizer: "{model}: expected its tokenizer",
    code_of_its_own: "{model}: expected a causal language model: it needs code of its own, which is not run",
    another_tokenizer: "2: model.name: expected a model with its own tokenizer: this one makes the token id ",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_model_that_cannot_be_used(
    llama: Path, text: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    model = shutil.copytree(llama, tmp_path / "model")
    damage(model)
    assert DAMAGE[damage].format(model=model) in error_of(tmp_path, model, text)


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "a/b/c"])
def test_no_such_folder(text: Path, tmp_path: Path, name: str) -> None:
    line = f"2: model.name: expected a folder or a repository on the hub; there is no folder {name}"
    assert error_of(tmp_path, Path("x"), text, ("name: x", f"name: {name}"), width=16) == line


def test_a_revision_of_a_folder(llama: Path, text: Path, tmp_path: Path) -> None:
    line = f"2: model.revision: expected none, since {llama} is a folder"
    assert error_of(tmp_path, llama, text, ("name: ", "revision: main, name: "), width=16) == line


def poisoned(llama: Path, folder: Path, value: float, token: int) -> Path:
    """A copy of the model, with a value in the embedding of a token."""
    model = shutil.copytree(llama, folder)
    weights = load_file(model / "model.safetensors")
    weights["model.embed_tokens.weight"][token, 3] = value
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    return model


VALUES = {
    float("nan"): ("float32", "5: activations.hook", "the value is nan, which no dtype mends"),
    float("inf"): ("float32", "5: activations.hook", "the value is inf"),
    1e5: ("float32", "activations.dtype", "float16 cannot hold the value 100000"),
    7e4: ("float16", "2: model.dtype", "the value is inf, which no dtype mends; expected bfloat16 or float32"),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("feed", ["stored", "stream"])
def test_a_value_that_cannot_be_kept(llama: Path, text: Path, tmp_path: Path, value: float, feed: str) -> None:
    """Which split, token, position, context, window, dimension and module."""
    dtype, key, what = VALUES[value]
    model = poisoned(llama, tmp_path / "model", value, token=5)
    more: dict[str, object] = {"hook": "model.embed_tokens", "contexts_per_pass": 3, "feed": feed}
    said = error_of(tmp_path, model, text, ("name: ", f"dtype: {dtype}, name: "), **more)
    place = r"(train|held_out), token 'word5' at position (\d+) of context (\d+) of window 0, dimension 3"
    found = re.match(rf".*{key}: {place} of model.embed_tokens: {what}", said)
    assert found is not None, said
    capture_windows(source_file(tmp_path, llama, text, "model.embed_tokens"), tmp_path / "out")
    ids = WindowMaker.open(tmp_path / "out", torch.device("cpu")).reader(found[1]).window(0).ids
    position, context = int(found[2]), int(found[3])
    assert ids[context, position] == 5
    assert not (ids[:context] == 5).any()
