"""What a latent does to predictions: by hand, and against a whole run of the model with the activation changed."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import Gemma3Config, GPT2Config, GPT2LMHeadModel

from harness.activations.hook import Hook, hidden_states
from harness.evaluation.language_model import OpenedModel, Place
from harness.interpretability import logits
from harness.interpretability.cell import CellLatents
from harness.interpretability.direction import effects_of
from harness.interpretability.logits import logit_effects
from harness.interpretability.text import Text
from harness.interpretability.windows import windows_of
from harness.sae.model import build_sae
from harness.sae.sparsifiers import TopK
from harness.study.interpretability import Interpretability
from harness.training.centring import Centring
from harness.training.sae_files import SAEConfig
from harness.training.trained_sae import TrainedSAE
from tests.interpretability.planted import Words
from tests.training.cells import recipe

VOCABULARY, WIDTH = 11, 8


class ThreeWords(nn.Module):
    """Logits (a, 0, -a) from the one activation of the token."""

    config = Gemma3Config(text_config={"vocab_size": 3})  # as that of models that see, too

    def __init__(self) -> None:
        super().__init__()
        self.hook = nn.Embedding.from_pretrained(torch.tensor([[0.0], [1.0], [3.0]]))

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        a = self.hook(input_ids)
        return SimpleNamespace(logits=torch.cat([a, 0 * a, -a], 2))


def cell_of(model: Any, place: Place, ids: Tensor, sae: Any, mask: Tensor | None = None) -> CellLatents:
    """Of a language model on some contexts, all of whose positions but padding are kept."""
    (states,) = hidden_states(model, [Hook(*place)], ids, mask)
    kept = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    rows = np.where(kept, kept.flatten().cumsum(0).reshape(kept.shape) - 1, -1)
    x, width = states[kept], states.shape[-1]
    opened = OpenedModel(model, Words(), place, place, None, x.mean(0))
    text = Text(ids.numpy(), rows, x, x, opened, None if mask is None else mask.numpy())
    trained = TrainedSAE(sae, SAEConfig(recipe(), Centring.none(width), Centring.none(width)))
    return CellLatents.of(trained, text, windows_of(text, 8, 0), Interpretability(latents=100), "cpu")


def test_by_hand():
    """One latent says the activation, the other one nothing. Its tokens: 3, once in each context, then 1."""
    model = ThreeWords().eval()
    sae = build_sae(1, 2, 1, sparsifier=TopK, generator=torch.Generator().manual_seed(0))
    (coder,) = sae.stack()
    coder.encoder.data, coder.decoder.data = torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.5], [1.0]])
    ids = torch.tensor([[1, 2, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1], [0] * 8])
    found = logit_effects(cell_of(model, Place(model.hook), ids, sae))

    def divergence(a: float) -> float:
        """Of the words' odds with `a` from those with half of it."""
        own, without = (torch.tensor([b, 0.0, -b]).log_softmax(0) for b in (a, a / 2))
        return float((own.exp() * (own - without)).sum())

    assert found["logit_kl"] == pytest.approx([(divergence(3) + divergence(1)) / 2, math.nan], nan_ok=True)
    assert found["logits_up"] == [[0, 1, 2], None]
    assert found["logits_down"] == [[2, 1, 0], None]


def gpt2() -> Any:
    sizes = {"n_positions": 16, "n_embd": WIDTH, "n_layer": 3, "n_head": 2}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **sizes))
    for parameter in model.parameters():
        parameter.data *= 5  # of its own, it hardly tells tokens apart
    return model.eval().requires_grad_(False)


MASK = torch.ones(6, 16, dtype=torch.bool)
MASK[1, :5] = MASK[3, :9] = False  # on the left


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_against_the_whole_run_with_the_activation_changed(mask, monkeypatch):
    monkeypatch.setattr(logits, "LATENTS", 3)  # in several parts, each of several passes
    monkeypatch.setattr(logits, "LOGITS", 4 * 16 * VOCABULARY * 2)
    model = gpt2()
    ids = torch.randint(1, VOCABULARY, (6, 16), generator=torch.Generator().manual_seed(1))
    place = Place(model.transformer.h[1])
    sae = build_sae(WIDTH, 10, 2, decoder=(2,), sparsifier=TopK, generator=torch.Generator().manual_seed(2))
    cell = cell_of(model, place, ids, sae, mask)
    found = logit_effects(cell)
    codes = torch.zeros(*ids.shape, 10)
    kept = torch.from_numpy(cell.text.rows >= 0)
    codes[kept] = cell.sae.encode(cell.text.x)
    known = 0
    for latent in range(10):
        strengths, positions = codes[..., latent].max(1)
        contexts = strengths.topk(4).indices[strengths.topk(4).values > 0].tolist()
        changes, divergences = [], []
        for context in contexts:
            position = int(positions[context])
            row = int(cell.text.rows[context, position])
            effect = effects_of(cell.sae, cell.text.x[row : row + 1], torch.tensor([latent]))[0]
            first = 0 if mask is None else int(mask[context].int().argmax())
            own, without = (
                run(model, place.module, ids[context, first:], position - first, some)
                for some in (torch.zeros(WIDTH), effect)
            )
            changes.append(own - without)
            divergences.append(float((own.exp() * (own - without)).sum()))
        if contexts:
            known += 1
            order = torch.stack(changes).mean(0).argsort(descending=True).tolist()
            assert found["logit_kl"][latent] == pytest.approx(np.mean(divergences), abs=1e-5)
            assert found["logits_up"][latent] == order[:8]
            assert found["logits_down"][latent] == order[::-1][:8]
    assert known > 4


def run(model: Any, module: nn.Module, ids: Tensor, position: int, effect: Tensor) -> Tensor:
    """Log-probabilities behind one position of one context, without padding and uncut."""

    def change(_module: nn.Module, _args: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        states[0, position] -= effect

    handle = module.register_forward_hook(change)
    found: Tensor = model(input_ids=ids[None]).logits[0, position].log_softmax(0)
    handle.remove()
    return found


def test_no_latent_fires():
    model = ThreeWords().eval()
    sae = build_sae(1, 2, 1, sparsifier=TopK, generator=torch.Generator().manual_seed(0))
    sae.stack()[0].encoder.data.zero_()
    found = logit_effects(cell_of(model, Place(model.hook), torch.zeros(2, 8, dtype=torch.int64), sae))
    assert np.isnan(found["logit_kl"]).all()
    assert found["logits_up"] == [None, None]
