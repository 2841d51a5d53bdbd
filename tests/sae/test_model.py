"""Each architecture with each sparsifier against its formula, written out densely in `references`."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.func import functional_call

from harness.study.catalogue import SPARSIFIERS
from tests.sae.references import LATENTS, LAYERS, WIDTH, K, activations, build, dense, differentiable

EVERY = pytest.mark.parametrize(
    ("layers", "sparsifier"), [(layers, sparsifier) for layers in LAYERS for sparsifier in SPARSIFIERS]
)


@EVERY
def test_codes_reconstruction_and_gradients_are_those_of_the_formula(layers, sparsifier):
    sae, x = build(layers, sparsifier).double(), activations().double().requires_grad_()
    output, reference = sae(x), dense(sae, x)
    total = torch.stack([reconstruction for *_, reconstruction in reference]).sum(0)
    for part, (target, seen, code, reconstruction) in zip(output.coders, reference, strict=True):
        assert torch.allclose(part.target, target)
        assert torch.allclose(part.input, seen)
        assert torch.allclose(part.code.dense(), code)
        assert torch.allclose(part.reconstruction, reconstruction)
    assert torch.allclose(output.reconstruction, total)

    parameters = [x, *differentiable(sae)]
    aim = torch.ones_like(x)
    ours = torch.autograd.grad((output.reconstruction - aim).square().sum(), parameters)
    theirs = torch.autograd.grad((total - aim).square().sum(), parameters)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other)


@EVERY
def test_gradients_agree_with_finite_differences(layers, sparsifier):
    sae, x = build(layers, sparsifier).double(), activations(3).double().requires_grad_()
    names = [name for name, _ in sae.named_parameters() if not name.endswith("log_threshold")]

    def reconstruction(x, *parameters):
        return functional_call(sae, dict(zip(names, parameters, strict=True)), (x,)).reconstruction

    assert gradcheck(reconstruction, (x, *differentiable(sae)), eps=1e-7, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("layers", ["none", "sparse 3"])
def test_the_shallow_forward_pass_by_hand(layers):
    """One token, two latents of which one is active: linear -> ReLU -> top-k -> linear, coder after coder."""
    sae = build(layers, width=2, latents=6 if layers == "sparse 3" else 2, k=3 if layers == "sparse 3" else 1)
    for coder in sae.stack():
        coder.encoder.data = coder.decoder.data = torch.eye(2)
        coder.bias.data, coder.decoder_mlp.bias_out.data = torch.tensor([0.0, -1.0]), torch.tensor([0.5, 0.0])
    output = sae(torch.tensor([[3.0, 5.0]]))
    # 3 against 5 - 1: the second fires with 4, [0.5, 4] is left over as [2.5, 1]; then the first with 2.5, twice 0
    expected = {"none": [0.5, 4.0], "sparse 3": [0.5 + 3.0 + 0.5, 4.0 + 0.0 + 0.0]}[layers]
    assert output.reconstruction.tolist() == [expected]
    assert [part.target.tolist() for part in output.coders][:2] == [[[3.0, 5.0]], [[2.5, 1.0]]][
        : len(output.coders)
    ]


SIZES = {
    "none": [(41, 7)],
    "sparse 3": [(14, 3), (14, 2), (13, 2)],
    "sparse 4-2-1": [(23, 4), (12, 2), (6, 1)],
    "sparse 2 each": [(41, 7), (41, 7)],
}


@pytest.mark.parametrize("layers", SIZES)
def test_stacked_layers_have_their_parts_of_latents_and_k(layers):
    assert [(coder.latents, coder.sparsifier.k) for coder in build(layers).stack()] == SIZES[layers]


@pytest.mark.parametrize(
    ("layers", "encoder", "decoder", "blocks"),
    [
        ("none", (LATENTS, 6), (LATENTS, 6), []),
        ("dense 1-3-2-1", (LATENTS, 18), (LATENTS, 12), [(6, 6), (18, 6), (6, 12), (6, 6)]),
        ("dense_encoder 2", (LATENTS, 12), (LATENTS, 6), [(12, 6)]),
    ],
)
def test_widths_are_multiples_of_the_activation_width(layers, encoder, decoder, blocks):
    (coder,) = build(layers).stack()
    assert (coder.encoder.shape, coder.decoder.shape) == (encoder, decoder)
    weights = [*(b.weight for b in coder.encoder_mlp.blocks), *(b.weight for b in coder.decoder_mlp.blocks)]
    weights += [] if coder.decoder_mlp.weight_out is None else [coder.decoder_mlp.weight_out]
    assert [tuple(weight.shape) for weight in weights] == blocks


def test_k_changes_in_the_proportions_that_the_stack_was_built_in():
    sae = build("sparse 4-2-1")
    sae.set_active(14)
    assert [coder.sparsifier.k for coder in sae.stack()] == [8, 4, 2]
    assert sum(len(part.code.values) for part in sae(activations(5)).coders) == 5 * 14


def test_no_coder_is_left_without_an_active_latent_between_two_ks():
    sae = build("sparse 8-8-1", latents=170, k=9)  # 4, 4 and 1 of 9, but 5, 5 and 0 of 10
    sae.set_active(10)
    assert [coder.sparsifier.k for coder in sae.stack()] == [5, 5, 1]


def test_projection_leaves_what_does_not_change_the_norm():
    sae = build("sparse 2")
    sae.normalise_decoders()
    for decoder in sae.decoders():
        assert torch.allclose(decoder.norm(dim=1), torch.ones(len(decoder)), atol=1e-6)
        decoder.grad = torch.randn(decoder.shape, generator=torch.Generator().manual_seed(5))
    given = [decoder.grad.clone() for decoder in sae.decoders()]
    sae.project_decoder_gradients()
    for decoder, grad in zip(sae.decoders(), given, strict=True):
        assert torch.allclose((decoder.grad * decoder).sum(1), torch.zeros(len(decoder)), atol=1e-6)
        along = grad - decoder.grad  # what was taken away: a multiple of each row
        assert torch.allclose(along, (along * decoder).sum(1, keepdim=True) * decoder, atol=1e-6)


@pytest.mark.parametrize("layers", ["none", "dense 2-2", "sparse 2"])
def test_decoders_of_the_encoders_shape_start_tied_and_at_unit_norm(layers):
    from harness.sae.model import build_sae
    from harness.sae.sparsifiers import TopK
    from harness.study.catalogue import parse_layers

    parsed = parse_layers(layers)
    sae = build_sae(
        WIDTH,
        LATENTS,
        K,
        encoder=parsed.encoder,
        decoder=parsed.decoder,
        stack=parsed.stack,
        sparsifier=TopK,
        generator=torch.Generator().manual_seed(0),
    )
    for coder in sae.stack():
        assert torch.allclose(coder.encoder, coder.decoder, atol=1e-6)
        assert torch.allclose(coder.decoder.norm(dim=1), torch.ones(coder.latents), atol=1e-6)
        assert not coder.bias.any()
