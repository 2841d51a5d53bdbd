"""Switching latents off, in SAEs made by hand and against running them without the latent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.interpretability.cell import CellLatents
from harness.interpretability.direction import (
    alive_rows,
    direction_of,
    directions,
    directions_of,
    effects_of,
    shallow_cosine,
)
from harness.interpretability.firings import Firings, firings_of
from harness.interpretability.text import Text
from harness.interpretability.windows import windows_of
from harness.sae.model import SAE, build_sae
from harness.sae.sparsifiers import TopK
from harness.study.catalogue import INPUTS
from harness.study.interpretability import Interpretability
from harness.training.cell import initial_sae
from harness.training.centring import Centring
from harness.training.sae_files import SAEConfig
from harness.training.trained_sae import TrainedSAE
from tests.interpretability.planted import text_from
from tests.training.cells import CENTRING, WIDTH, recipe

X = 2 * torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(3)) + 0.5


def trained(**changes) -> TrainedSAE:
    """As it was before training, but for biases, which then are all 0."""
    wanted = recipe(**changes)
    sae = initial_sae(wanted, WIDTH, None)
    random = torch.Generator().manual_seed(1)
    for parameter in sae.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=random)
    return TrainedSAE(sae, SAEConfig(wanted, CENTRING, CENTRING))


def by_hand(sae: SAE, width: int) -> TrainedSAE:
    return TrainedSAE(sae, SAEConfig(recipe(), Centring.none(width), Centring.none(width)))


def text_of(x: Tensor) -> Text:
    """In contexts of 16 tokens."""
    rows = np.arange(len(x)).reshape(-1, 16)
    return text_from(rows % 7, x.numpy())


def firings(sae: TrainedSAE, x: Tensor = X) -> Firings:
    return firings_of(sae, text_of(x))


def cell_of(sae: TrainedSAE, x: Tensor = X) -> CellLatents:
    text = text_of(x)
    return CellLatents.of(sae, text, windows_of(text, 8, 0), Interpretability(latents=32), "cpu")


@pytest.mark.parametrize("inputs", list(INPUTS))
@pytest.mark.parametrize("sparsifier", ["topk", "relu", "jumprelu"])
def test_behind_a_linear_decoder_every_latent_is_its_row(inputs, sparsifier):
    sae = trained(inputs=inputs, sparsifier=sparsifier)
    fires = firings(sae)
    latents = np.flatnonzero(fires.counts > 1)
    found = directions_of(sae, X, fires, latents, seed=0)
    assert len(latents) > 10
    assert found.cosine == pytest.approx(1, abs=1e-6)
    assert found.share == pytest.approx(1, abs=1e-6)
    rows = alive_rows(sae, fires)
    assert rows is not None
    place = np.searchsorted(np.flatnonzero(fires.counts), latents)
    assert np.allclose(found.mean, rows[place], atol=1e-4)


@pytest.mark.parametrize("layers", ["none", "dense 2-2", "dense_encoder 2"])
def test_an_effect_is_what_decoding_without_the_latent_loses(layers):
    sae = trained(layers=layers, inputs="unit_norm")
    codes, statistics = sae.encode(X), sae.token_statistics(X)
    which = codes.argmax(1)
    without = codes.clone()
    without[torch.arange(len(X)), which] = 0
    lost = sae.decode(codes, statistics) - sae.decode(without, statistics)
    assert torch.allclose(effects_of(sae, X, which), lost, atol=1e-5)


def test_all_layers_of_a_transcoder_read_its_input_and_do_not_make_up_for_a_latent():
    target = Centring(torch.ones(3), torch.tensor(2.0), torch.ones(3))
    wanted = recipe(layers="sparse 2")
    sae = TrainedSAE(initial_sae(wanted, WIDTH, 3), SAEConfig(wanted, CENTRING, target, transcoder=True))
    codes = sae.encode(X)
    which = codes.argmax(1)
    without = codes.scatter(1, which[:, None], 0)
    assert torch.allclose(effects_of(sae, X, which), sae.decode(codes) - sae.decode(without), atol=1e-5)
    cell = cell_of(sae)
    cosines = directions(cell)["direction_cosine"]
    assert cosines[cell.firings.counts[cell.sample] > 1] == pytest.approx(1, abs=1e-6)


def test_a_latent_that_does_not_fire_has_no_effect():
    sae = trained(layers="dense 2-2")
    silent = sae.encode(X).argmin(1)
    assert not effects_of(sae, X, silent).any()


def test_later_sparse_layers_see_what_is_left_without_the_latent():
    sae = trained(layers="sparse 3")
    coders = sae.sae.stack()
    token = X[:1]
    for latent in sae.encode(token)[0].nonzero().flatten().tolist():
        x = sae.inputs.there(sae.input.centre(token), sae.input).x
        made, start = torch.zeros_like(x), 0
        for coder in coders:
            left = x - made
            codes = coder.encode(coder.encoder_mlp(left)).dense()
            if start <= latent < start + coder.latents:
                codes[0, latent - start] = 0
            made, start = made + codes @ coder.decoder + coder.decoder_mlp.bias_out, start + coder.latents
        lost = sae(token) - sae.target.restore(made)
        assert torch.allclose(effects_of(sae, token, torch.tensor([latent])), lost, atol=1e-5)


def test_what_a_later_layer_makes_up_for_is_no_effect():
    """Two sparse layers with the same latents: where the first one's is off, the second one says the same."""
    sae = build_sae(2, 4, 2, stack=(1, 1), sparsifier=TopK, generator=torch.Generator().manual_seed(0))
    for coder in sae.stack():
        coder.encoder.data, coder.decoder.data = torch.eye(2), torch.eye(2)
    x = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert not effects_of(by_hand(sae, 2), x, torch.tensor([0, 1])).any()


def of_two_directions() -> tuple[TrainedSAE, Tensor]:
    """Latent 0 decodes to (1, 1, 0) before a ReLU; latent 1 shuts the first of these, latent 2 the second.

    At 48 tokens latent 1 is on, too, at 16 latent 2, and at 16 more both, where latent 0 has no effect.
    """
    sae = build_sae(3, 3, 3, decoder=(1,), sparsifier=TopK, generator=torch.Generator().manual_seed(0))
    (coder,) = sae.stack()
    coder.encoder.data, coder.decoder_mlp.weight_out.data = torch.eye(3), torch.eye(3)
    coder.decoder.data = torch.tensor([[1.0, 1.0, 0.0], [-9.0, 0.0, 0.0], [0.0, -9.0, 0.0]])
    kinds = [([1.0, 1.0, 0.0], 48), ([1.0, 0.0, 1.0], 16), ([1.0, 1.0, 1.0], 16)]
    return by_hand(sae, 3), torch.tensor([x for x, count in kinds for _ in range(count)])


def test_a_latent_with_two_directions_by_hand(monkeypatch):
    monkeypatch.setattr("harness.interpretability.direction.TOKENS", 80)
    sae, x = of_two_directions()
    found = directions_of(sae, x, firings(sae, x), np.array([0]), seed=0)
    pairs_alike = (48 * 47 + 16 * 15) / (64 * 63)
    assert found.cosine == pytest.approx([pairs_alike])
    assert found.share == pytest.approx([48 / 64])
    assert found.mean[0] == pytest.approx(np.array([16, 48, 0]) / np.hypot(16, 48))
    assert alive_rows(sae, firings(sae, x)) is None


def test_effects_of_all_directions_have_no_cosine_however_few_tokens_there_are():
    """That of each with the mean of all, itself among them, would be 0.7 at two tokens, and 1 at one."""
    random = torch.Generator().manual_seed(0)
    for tokens in (2, 5, 64):
        found = [direction_of(torch.randn(tokens, 50, generator=random).double()) for _ in range(300)]
        cosines, shares = [np.mean([one[which] for one in found]) for which in (0, 1)]
        assert cosines == pytest.approx(0, abs=0.02)
        assert shares == pytest.approx(1 / 50, abs=0.02)
    alone = direction_of(torch.ones(1, 50).double())
    assert np.isnan(alone[:2]).all()


def test_columns_are_of_the_sample_and_unknown_where_nothing_fires():
    sae = trained(layers="dense 2-2")
    sae.sae.stack()[0].bias.data[5] = -1e9
    cell = cell_of(sae)
    found = directions(cell)
    known = cell.firings.counts[cell.sample] > 1
    assert np.array_equal(~np.isnan(found["direction_cosine"]), known)
    assert not known[5]
    assert np.all(found["direction_cosine"][known] <= 1 + 1e-9)
    again = directions(cell_of(sae))
    assert np.array_equal(found["direction_cosine"], again["direction_cosine"], equal_nan=True)


def test_the_nearest_row_of_shallow_saes():
    shallow = trained()
    cell = cell_of(shallow)
    known = cell.firings.counts[cell.sample] > 1
    own = alive_rows(shallow, cell.firings)
    assert shallow_cosine(cell, [own])["shallow_cosine"][known] == pytest.approx(1, abs=1e-5)
    both = shallow_cosine(cell, [own, -own])["shallow_cosine"]
    opposite = shallow_cosine(cell, [-own])["shallow_cosine"]
    assert both[known] == pytest.approx((1 + opposite[known]) / 2, abs=1e-5)
    assert np.isnan(shallow_cosine(cell, [])["shallow_cosine"]).all()
    assert np.isnan(both[~known]).all()
