"""What an SAE does to the language model, against numbers worked out by hand and by other forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
)

from harness.evaluation.language_model import LanguageModelRun, Place, log_probs_at
from harness.evaluation.loss_recovered import measure

VOCABULARY, WIDTH = 11, 8


class TwoWords(nn.Module):
    """Says the first of two words with odds that the one activation of the token gives: logits (a, 0)."""

    config = PreTrainedConfig(vocab_size=2)

    def __init__(self) -> None:
        super().__init__()
        self.hook = nn.Embedding.from_pretrained(torch.tensor([[math.log(3)], [math.log(9)]]))

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        a = self.hook(input_ids)
        return SimpleNamespace(logits=torch.cat([a, torch.zeros_like(a)], 2))


def test_against_a_case_worked_out_by_hand() -> None:
    """Token 0 gives word 0 odds 3 : 1, token 1 odds 9 : 1. The last position predicts nothing."""
    model = TwoWords()
    ids = torch.tensor([[0, 1, 0, 0, 1]])
    kept = torch.tensor([[True, False, True, True, True]])
    place = Place(model.hook)
    run = LanguageModelRun(model, place, place, (ids, kept, None), mean=torch.tensor([math.log(2)]))
    read = torch.tensor([[3.0], [3.0], [3.0], [9.0]]).log()
    assert torch.allclose(run.alone.inputs, read)
    # Scored: position 0 is to say word 1, position 2 word 0, position 3 word 1.
    own = (math.log(4) + math.log(4 / 3) + math.log(4)) / 3
    zeros, mean = math.log(2), (math.log(3) + math.log(3 / 2) + math.log(3)) / 3
    assert run.alone.loss == pytest.approx(own)
    assert run.loss_with_zeros == pytest.approx(zeros)
    assert run.loss_with_mean == pytest.approx(mean)

    def doubles_the_odds(x: Tensor) -> Tensor:  # to 6 : 1
        return x + math.log(2)

    found = measure(doubles_the_odds, run)
    with_sae = (math.log(7) + math.log(7 / 6) + math.log(7)) / 3
    divergence = 3 / 4 * math.log((3 / 4) / (6 / 7)) + 1 / 4 * math.log((1 / 4) / (1 / 7))
    assert found["ce_loss_with_sae"] == pytest.approx(with_sae)
    assert found["ce_loss_increase"] == pytest.approx(with_sae - own)
    assert found["kl_divergence"] == pytest.approx(divergence)
    # The model is overconfident here: both ablations make it better, and there is nothing to be recovered.
    assert zeros < own
    assert mean < own
    assert not {"loss_recovered", "loss_recovered_mean"} & found.keys()

    right = LanguageModelRun(model, place, place, (torch.zeros_like(ids), kept, None), torch.tensor([math.log(2)]))
    found = measure(doubles_the_odds, right)
    own, zeros, mean, with_sae = (math.log(1 + 1 / odds) for odds in (3, 1, 2, 6))
    assert found["loss_recovered"] == pytest.approx((zeros - with_sae) / (zeros - own))
    assert found["loss_recovered_mean"] == pytest.approx((mean - with_sae) / (mean - own))


def gpt2() -> Any:
    sizes = {"n_positions": 16, "n_embd": WIDTH, "n_layer": 3, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **sizes))


def llama() -> Any:
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=16, bos_token_id=0, eos_token_id=0, **sizes
    )
    return LlamaForCausalLM(config)


def gemma3() -> Any:
    """Sees, too: what is said of its language model is a part of its configuration."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": VOCABULARY, "num_key_value_heads": 1, "head_dim": 4, "pad_token_id": 0, **sizes}
    return Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config={**sizes, "image_size": 28, "patch_size": 14})
    )


@torch.no_grad()
def contexts_of(model: Any) -> tuple[Tensor, Tensor]:
    """Contexts that the model likes: each token is the likeliest one, but for separators, which are not kept."""
    ids = torch.randint(1, VOCABULARY, (7, 1), generator=torch.Generator().manual_seed(0))
    for position in range(1, 12):
        likeliest = model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(2)
        ids = torch.cat([ids, likeliest if position % 5 else torch.zeros_like(likeliest)], 1)
    return ids, torch.arange(12).expand(7, 12) % 5 != 0


def some(make: Callable[..., Any], **sizes: Any) -> Any:
    """A model whose predictions differ from token to token."""
    torch.manual_seed(0)
    model = make(**sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(60)
    return model


def run_of(model: Any, reads: Place, replaces: Place | None = None, width: int = WIDTH) -> LanguageModelRun:
    ids, kept = contexts_of(model)
    return LanguageModelRun(model, reads, replaces or reads, (ids, kept, None), torch.linspace(-1, 1, width))


def halve(x: Tensor) -> Tensor:
    return x / 2 + 0.1


@torch.no_grad()
def test_against_a_forward_pass_written_out() -> None:
    """GPT-2 block by block, and the definitions in float64."""
    model = some(gpt2)
    found = measure(halve, run_of(model, Place(model.transformer.h[1])))
    ids, kept = contexts_of(model)

    def log_probs(replaced: Tensor | None) -> Tensor:
        parts = model.transformer
        states = parts.wte(ids) + parts.wpe(torch.arange(12))
        for number, block in enumerate(parts.h):
            states = block(states)
            states = states[0] if isinstance(states, tuple) else states
            if number == 1 and replaced is not None:
                states = torch.where(kept[..., None], replaced, states)
            elif number == 1:
                read.append(states)
        return (parts.ln_f(states) @ model.lm_head.weight.T).double().log_softmax(-1)[:, :-1]

    read: list[Tensor] = []
    own = log_probs(None)
    scored = kept[:, :-1]

    def loss(predicted: Tensor) -> float:
        return float(-predicted.gather(2, ids[:, 1:, None])[..., 0][scored].mean())

    with_sae, mean = log_probs(halve(read[0])), torch.linspace(-1, 1, WIDTH)
    zeros, means = (loss(log_probs(row.expand_as(read[0]))) for row in (torch.zeros(WIDTH), mean))
    divergence = (own.exp() * (own - with_sae)).sum(-1)[scored].mean()
    assert found["ce_loss_with_sae"] == pytest.approx(loss(with_sae), abs=1e-5)
    assert found["ce_loss_increase"] == pytest.approx(loss(with_sae) - loss(own), abs=1e-5)
    assert found["kl_divergence"] == pytest.approx(float(divergence), abs=1e-5)
    for name, ablated in (("loss_recovered", zeros), ("loss_recovered_mean", means)):
        assert ablated > loss(own) + 0.1
        assert found[name] == pytest.approx((ablated - loss(with_sae)) / (ablated - loss(own)), abs=1e-4)


PLACES = {
    "a block of GPT-2": (gpt2, "transformer.h.1", "output"),
    "what an MLP of GPT-2 is given": (gpt2, "transformer.h.1.mlp", "input"),
    "a block of Llama": (llama, "model.layers.0", "output"),
    "a block of Gemma 3": (gemma3, "model.language_model.layers.0", "output"),
    "what a block of Llama is given": (llama, "model.layers.1", "input"),
}


def place_in(model: Any, name: str, side: Any) -> Place:
    return Place(model.get_submodule(name), side)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("remembered", [True, False])
def test_the_identity_recovers_all_and_the_ablations_nothing(
    where: str, remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly, to the last bit: in one batch or in several, with the model's own predictions kept or not."""
    monkeypatch.setattr("harness.evaluation.language_model.LOGITS", 4 * 12 * VOCABULARY * 3)
    monkeypatch.setattr("harness.evaluation.language_model.PREDICTIONS", 10**6 if remembered else 0)
    make, name, side = PLACES[where]
    model = some(make)
    run = run_of(model, place_in(model, name, side))
    assert len(run.batches) == 3
    found = measure(lambda x: x, run)
    assert found["ce_loss_with_sae"] == run.alone.loss
    assert found["ce_loss_increase"] == found["kl_divergence"] == 0
    nothing, mean = (measure(lambda x, row=row: row.expand_as(x), run) for row in (torch.zeros(WIDTH), run._mean))
    assert nothing["ce_loss_with_sae"] == run.loss_with_zeros
    assert mean["ce_loss_with_sae"] == run.loss_with_mean
    assert found["loss_recovered"] == found["loss_recovered_mean"] == 1
    assert nothing["loss_recovered"] == mean["loss_recovered_mean"] == 0


@torch.no_grad()
def test_a_transcoder_reads_one_place_and_replaces_another() -> None:
    """The MLP itself is a perfect transcoder."""
    model = some(gpt2)
    mlp = model.transformer.h[1].mlp
    run = run_of(model, Place(mlp, "input"), Place(mlp))
    found = measure(mlp, run)
    assert found["loss_recovered"] == pytest.approx(1, abs=1e-4)
    assert found["kl_divergence"] == pytest.approx(0, abs=1e-6)
    assert measure(lambda x: mlp(x) / 2, run)["loss_recovered"] < 0.99


@torch.no_grad()
@pytest.mark.parametrize("make", [gpt2, llama])
def test_padding_on_either_side_changes_nothing(make: Callable[..., Any]) -> None:
    model = some(make)
    place = place_in(model, *("transformer.h.1" if make is gpt2 else "model.layers.0", "output"))
    ids, kept = contexts_of(model)
    mean = torch.linspace(-1, 1, WIDTH)
    expected = measure(halve, LanguageModelRun(model, place, place, (ids, kept, None), mean))
    for left, right in ((3, 0), (0, 3)):
        padded = [functional.pad(part, (left, right)) for part in (ids, kept, torch.ones_like(kept))]
        found = measure(halve, LanguageModelRun(model, place, place, (padded[0], padded[1], padded[2]), mean))
        assert found == {name: pytest.approx(value, rel=1e-4) for name, value in expected.items()}


class Twice(nn.Module):
    """Its one block runs twice, as in models whose layers share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.eye(2))
        self.block = nn.Identity()

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.block(2 * self.block(self.embedding(input_ids))))


def test_of_a_module_that_runs_several_times_the_first_run_is_changed() -> None:
    model = Twice()
    changed = (Place(model.block), lambda states: states + torch.tensor([1.0, 0.0]))
    found = log_probs_at(model, torch.tensor([[0]]), torch.tensor([0]), {}, changed)
    assert torch.allclose(found, torch.tensor([[4.0, 0.0]]).log_softmax(1))
