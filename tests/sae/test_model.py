"""Each architecture against its formula, written out densely here."""

from typing import get_args, get_type_hints

import pytest
import torch
from torch.nn.functional import layer_norm

from harness.sae.model import build_sae
from harness.sae.penalties import PENALTIES
from harness.sae.roles import Role, parameter_roles
from harness.study.plan import cost
from harness.study.recipe import Layers, Recipe

WIDTH, LATENTS, K = 6, 40, 4
ALL = ["none", "dense 2-2", "dense 1-3-2-1", "dense_encoder 2", "sparse 3"]


def build(layers: str, width: int = WIDTH):
    parsed = Layers.parse(layers)
    generator = torch.Generator().manual_seed(3)
    sae = build_sae(
        width, LATENTS, K, encoder=parsed.encoder, decoder=parsed.decoder, depth=parsed.depth, generator=generator
    )
    for p in sae.parameters():  # biases and gains start at 0 and 1: move them, so that they count
        p.data += 0.1 * torch.randn(p.shape, generator=generator)
    return sae


def activations(tokens: int = 9) -> torch.Tensor:
    return torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(4))


def keep_top(pre: torch.Tensor, k: int) -> torch.Tensor:
    return pre.relu() * torch.zeros_like(pre).scatter(1, pre.topk(k, dim=1).indices, 1.0)


def test_shallow_is_linear_relu_top_k_linear():
    (coder,) = build("none").coders
    x = activations()
    expected = keep_top(x @ coder.encoder.T + coder.bias, K) @ coder.decoder + coder.behind.bias_out
    assert torch.allclose(coder(x).reconstruction, expected, atol=1e-6)


def test_dense_has_blocks_on_both_sides():
    sae = build("dense 1-3-2-1")
    (coder,) = sae.coders
    x = h = activations()
    for block in coder.before.blocks:
        h = layer_norm((h @ block.weight.T + block.bias).relu(), (len(block.bias),), block.gain, block.shift)
    h = h / (3 * WIDTH) ** 0.5
    rows = keep_top(h @ coder.encoder.T + coder.bias, K) @ coder.decoder
    h = (rows + coder.behind.bias_in).relu()
    (block,) = coder.behind.blocks
    h = (h @ block.weight.T + block.bias).relu()
    expected = h @ coder.behind.weight_out.T + coder.behind.bias_out
    assert [tuple(b.weight.shape) for b in coder.before.blocks] == [(6, 6), (18, 6)]
    assert coder.encoder.shape == (LATENTS, 18)
    assert coder.decoder.shape == (LATENTS, 12)
    assert torch.allclose(sae(x).reconstruction, expected, atol=1e-5)


def test_dense_encoder_has_a_linear_decoder():
    (coder,) = build("dense_encoder 2").coders
    assert coder.encoder.shape == (LATENTS, 2 * WIDTH)
    assert coder.decoder.shape == (LATENTS, WIDTH)
    assert coder.behind.weight_out is None


def test_sparse_layers_code_what_is_left_over():
    sae = build("sparse 3")
    x = activations()
    residual, total = x, torch.zeros_like(x)
    for coder, latents, k in zip(sae.coders, (14, 13, 13), (2, 1, 1), strict=True):
        assert (len(coder.encoder), coder.k) == (latents, k)
        part = keep_top(residual @ coder.encoder.T + coder.bias, k) @ coder.decoder + coder.behind.bias_out
        residual, total = residual - part, total + part
    coded = sae(x)
    assert torch.allclose(coded.reconstruction, total, atol=1e-6)
    assert sum(code.values.shape[1] for code in coded.codes) == K


@pytest.mark.parametrize("layers", ALL)
def test_every_architecture(layers):
    sae = build(layers)
    x = activations()
    coded = sae(x)
    assert coded.reconstruction.shape == x.shape
    assert sum(code.pre_activations.shape[1] for code in coded.codes) == LATENTS
    assert sae(activations(0)).reconstruction.shape == (0, WIDTH)

    (coded.reconstruction.square().sum() + sum(penalty(sae, coded) for penalty in PENALTIES.values())).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in sae.parameters())

    sae.project_decoder_gradients()
    sae.normalise_decoders()
    for decoder in sae.decoders():
        assert torch.allclose(decoder.norm(dim=1), torch.ones(len(decoder)), atol=1e-6)

    assert torch.equal(build(layers)(x).reconstruction, build(layers)(x).reconstruction)


@pytest.mark.parametrize("layers", ALL)
def test_every_parameter_has_a_role_and_the_plan_counts_it(layers):
    sae = build(layers, width=8)
    roles = parameter_roles(sae)
    assert set(roles) == {name for name, _ in sae.named_parameters()}
    assert all((roles[n] in {Role.BIAS, Role.GAIN}) == (p.ndim == 1) for n, p in sae.named_parameters())
    price = cost(Recipe(latents=LATENTS, k=K, tokens=2048, layers=layers), width=8)
    assert price.parameters == sum(p.numel() for p in sae.parameters())


def test_projection_leaves_what_does_not_change_the_norm():
    sae = build("none")
    sae.normalise_decoders()
    (decoder,) = sae.decoders()
    decoder.grad = torch.randn(decoder.shape, generator=torch.Generator().manual_seed(5))
    across = decoder.grad - (decoder.grad * decoder).sum(1, keepdim=True) * decoder.detach()
    sae.project_decoder_gradients()
    assert torch.allclose(decoder.grad, across, atol=1e-6)
    assert torch.allclose((decoder.grad * decoder).sum(1), torch.zeros(LATENTS), atol=1e-6)


@pytest.mark.parametrize("layers", ["none", "dense 2-2"])
def test_decoders_of_the_encoders_shape_start_tied(layers):
    parsed = Layers.parse(layers)
    generator = torch.Generator().manual_seed(0)
    sae = build_sae(WIDTH, LATENTS, K, encoder=parsed.encoder, decoder=parsed.decoder, generator=generator)
    (coder,) = sae.coders
    assert torch.allclose(coder.encoder, coder.decoder, atol=1e-6)


@pytest.mark.parametrize("variant", PENALTIES)
@pytest.mark.parametrize("layers", ["none", "dense 2-2", "sparse 2"])
def test_a_spread_and_its_gradients_are_those_of_its_formula(variant, layers):
    sae = build(layers).double()
    x = activations().double().requires_grad_()
    activate = {"relu": torch.relu, "linear": lambda pre: pre}[variant]
    spreads, residual = [], x
    for coder in sae.stack():
        pre = coder.before(residual) @ coder.encoder.T + coder.bias
        spreads.append(activate(pre).mean(0).std())
        residual = residual - coder(residual).reconstruction
    expected = torch.stack(spreads).mean()
    ours = PENALTIES[variant](sae, sae(x))
    assert torch.allclose(ours, expected)

    parameters = [
        x,
        *(p for n, p in sae.named_parameters() if ".before." in n or n.endswith(("encoder", "0.bias"))),
    ]
    for mine, other in zip(
        torch.autograd.grad(ours, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        assert torch.allclose(mine, other)


def test_the_registry_is_what_a_recipe_may_name():
    assert set(get_args(get_type_hints(Recipe)["penalty_on"])) == set(PENALTIES)
