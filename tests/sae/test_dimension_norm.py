"""Decoder weights of unit norm for each output dimension, against linear layers [out, in] written out plainly."""

import pytest
import torch
from torch.nn import Linear

from harness.sae.dimension_norm import normalise_dimensions, project_dimensions, start_kaiming
from tests.sae.references import LAYERS, activations, build
from tests.training.cells import BATCH, DATA, WIDTH, cell

EVERY_LAYERS = pytest.mark.parametrize("layers", LAYERS)


def linears(coder) -> list[Linear]:
    """The layers behind the sparse one, as torch has them: weights [out, in]."""
    behind = coder.decoder_mlp
    last = [] if behind.weight_out is None else [behind.weight_out]
    weights = [coder.decoder.T, *(block.weight for block in behind.blocks), *last]
    found = []
    for weight in weights:
        layer = Linear(weight.shape[1], weight.shape[0])
        layer.weight.data = weight.detach().clone()
        found.append(layer)
    return found


def norms(coder) -> torch.Tensor:
    return torch.cat([torch.linalg.vector_norm(layer.weight.detach(), dim=-1) for layer in linears(coder)])


@EVERY_LAYERS
def test_every_output_dimension_has_unit_norm(layers):
    sae = build(layers)
    expected = [
        [layer.weight / layer.weight.norm(dim=-1, keepdim=True) for layer in linears(c)] for c in sae.stack()
    ]
    normalise_dimensions(sae)
    for coder, weights in zip(sae.stack(), expected, strict=True):
        for layer, weight in zip(linears(coder), weights, strict=True):
            assert torch.allclose(layer.weight, weight)


@EVERY_LAYERS
def test_gradients_that_are_left_change_no_norm(layers):
    sae, x = build(layers), activations(40)
    normalise_dimensions(sae)
    (sae(x).reconstruction - x).square().mean().backward()
    plain = [(w, g.clone()) for c in sae.stack() for w, g in zip(linears(c), gradients(c), strict=True)]
    project_dimensions(sae)
    left = [gradient for coder in sae.stack() for gradient in gradients(coder)]
    for (layer, before), after in zip(plain, left, strict=True):
        weight = layer.weight.detach()
        assert torch.allclose(after, before - (before * weight).sum(-1, keepdim=True) * weight, atol=1e-7)
        assert torch.allclose((after * weight).sum(-1), torch.zeros(len(weight)), atol=1e-6)


def gradients(coder) -> list[torch.Tensor]:
    """Of the weights [out, in] of `linears`."""
    behind = coder.decoder_mlp
    last = [] if behind.weight_out is None else [behind.weight_out.grad]
    return [coder.decoder.grad.T, *(block.weight.grad for block in behind.blocks), *last]


@pytest.mark.parametrize("layers", ["none", "dense 2-2", "dense 2-3-3-2", "sparse 2"])
def test_every_decoder_layer_starts_as_the_encoder_layer_opposite(layers):
    sae = build(layers, width=32, latents=1024)
    start_kaiming(sae, torch.Generator().manual_seed(0))
    for coder in sae.stack():
        assert float(coder.encoder.detach().var()) == pytest.approx(2 / coder.encoder.shape[1], rel=0.05)
        forward = [*(block.weight for block in coder.encoder_mlp.blocks), coder.encoder]
        for layer, opposite in zip(linears(coder), reversed(forward), strict=True):
            tied = opposite.detach().T / opposite.detach().T.norm(dim=-1, keepdim=True)
            assert torch.allclose(layer.weight, tied, atol=1e-6)


def test_a_decoder_without_an_opposite_and_a_transcoders_start_at_random():
    alone = build("dense_encoder 2")
    start_kaiming(alone, torch.Generator().manual_seed(0))
    (coder,) = alone.stack()
    assert coder.decoder.shape != coder.encoder.shape
    assert torch.allclose(norms(coder), torch.ones(len(norms(coder))))
    (coder,) = (transcoder := build("none", target_width=6)).stack()
    start_kaiming(transcoder, torch.Generator().manual_seed(0))
    assert not torch.allclose(coder.decoder, coder.encoder / coder.encoder.norm(dim=0))


@pytest.mark.parametrize("optimizer", ["adam", "muon", "sparse_adam"])
@pytest.mark.parametrize("layers", ["none", "dense 2-4-4-2", "sparse 2"])
def test_training_holds_every_dimension_at_unit_norm(layers, optimizer):
    one = cell(layers=layers, decoder_norm="unit_per_dimension", initial_weights="kaiming", optimizer=optimizer)
    start = [norms(coder) for coder in one.sae.stack()]
    for step in range(4):
        one.step(DATA[step * BATCH :][:BATCH])
    for coder, before in zip(one.sae.stack(), start, strict=True):
        assert torch.allclose(before, torch.ones(len(before)), atol=1e-6)
        assert torch.allclose(norms(coder), torch.ones(len(before)), atol=1e-6)
    (first, *_) = one.sae.stack()
    assert float(first.decoder.detach().square().sum()) == pytest.approx(first.decoder.shape[1], rel=1e-5)


def test_initial_weights_and_norms_are_two_settings():
    kaiming = cell(initial_weights="kaiming").sae.stack()[0]  # decoder rows at unit norm, as by default
    assert torch.allclose(kaiming.decoder.norm(dim=1), torch.ones(32), atol=1e-6)
    assert 1 < float(kaiming.encoder.detach().norm(dim=1).mean()) < 1.6
    held = cell(decoder_norm="unit_per_dimension").sae.stack()[0]
    assert torch.allclose(held.encoder.norm(dim=1), torch.ones(32), atol=1e-6)
    assert torch.allclose(held.decoder.norm(dim=0), torch.ones(WIDTH), atol=1e-6)
