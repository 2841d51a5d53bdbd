"""Language models with random weights: as they begin, and never taken for trained ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from harness.activations.capture import capture_activations
from harness.activations.capture_windows import capture_windows
from harness.activations.language_model import load_tokenizer, new_model, train_language_model
from harness.activations.store import ActivationStore
from harness.activations.windows import WindowMaker
from harness.errors import UserError
from harness.evaluation.language_model import open_model_of
from harness.sources.pretrained import Pretrained

from .conftest import Folders, MakeSource
from .pretrained_models import ARCHITECTURES, save_model, save_text, source_file

RANDOM = ("layers: 2", "layers: 2\n  weights: random")


def test_one_on_docstrings_is_as_before_its_first_step(
    make_source: MakeSource, folders: Folders, tmp_path: Path
) -> None:
    source = make_source(RANDOM)
    metrics = train_language_model(source, folders.corpus, tmp_path / "lm")
    assert metrics["tokens"] == 0
    assert metrics["held_out_loss"] == pytest.approx(math.log(400), rel=0.02)  # it knows nothing
    trained = json.loads((folders.language_model / "metrics.json").read_text())
    assert metrics["bigram_held_out_loss"] == trained["bigram_held_out_loss"]
    begun = new_model(source, load_tokenizer(source, folders.corpus)).state_dict()
    saved = load_file(tmp_path / "lm" / "model.safetensors")
    assert all(torch.equal(tensor, begun[name]) for name, tensor in saved.items())
    assert source.model_cost().training_flops == 0 < make_source().model_cost().training_flops


def test_activations_of_the_other_model_are_refused(
    make_source: MakeSource, folders: Folders, tmp_path: Path
) -> None:
    trained, random = make_source(), make_source(RANDOM)
    with pytest.raises(UserError, match=r"expected a language model with random weights, as .*tiny\.yaml says; "):
        random.check(ActivationStore.open(folders.activations))
    data = tmp_path / "data" / "tiny"
    train_language_model(random, folders.corpus, data / "language_model")
    capture_activations(random, folders.corpus, data / "language_model", data / "activations")
    random.check(ActivationStore.open(data / "activations"))
    with pytest.raises(UserError, match=r"with trained weights.* harness prepare .* --step language_model"):
        trained.check(ActivationStore.open(data / "activations"))
    with pytest.raises(UserError, match="with trained weights"):
        trained.steps()[-1].make(data)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_pretrained_one_keeps_architecture_and_tokenizer_alone(name: str, tmp_path: Path) -> None:
    model, text = save_model(name, tmp_path / "model"), save_text(tmp_path / "text.jsonl")
    hook = ARCHITECTURES[name].block
    rows = {}
    for said in ("", ", weights: random", ", weights: random, seed: 1"):
        source = source_file(tmp_path, model, text, hook, (f"{model}}}", f"{model}{said}}}"), dtype="float32")
        out = tmp_path / f"data{said[-1:]}" / "activations"
        manifest = capture_windows(source, out)
        source.check(ActivationStore.open(out))
        rows[said] = ActivationStore.open(out).read("held_out", 0, 100)
        assert said == "" or manifest["model"] == str(out.with_name("language_model"))
    assert len({array.tobytes() for array in rows.values()}) == 3

    torch.manual_seed(1)
    begun = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model)).eval()
    opened = open_model_of(out, torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(opened.model.parameters(), begun.parameters(), strict=True))
    assert np.array_equal(WindowMaker.open(out, torch.device("cpu")).window("held_out", 0)[0], rows[said])


def test_another_seed_makes_another_model_in_the_same_place(tmp_path: Path) -> None:
    model, text = save_model("gpt2", tmp_path / "model"), save_text(tmp_path / "text.jsonl")
    out = tmp_path / "data" / "activations"

    def source(seed: int) -> Pretrained:
        said = (f"{model}}}", f"{model}, weights: random, seed: {seed}}}")
        return source_file(tmp_path, model, text, "transformer.h.1", said)

    first = capture_windows(source(0), out)["model_fingerprint"]
    with pytest.raises(UserError, match=r"pretrained\.model\.seed: expected 1, .* got 0; make them again"):
        source(1).check(ActivationStore.open(out))
    second = capture_windows(source(1), out)["model_fingerprint"]
    assert first != second
    made = out.with_name("language_model").stat().st_ino
    assert capture_windows(source(1), out)["model_fingerprint"] == second
    assert out.with_name("language_model").stat().st_ino == made  # not made again
