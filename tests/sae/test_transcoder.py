"""Transcoders against their formula, written out densely in `references`: every coder reads the input alone."""

import pytest
import torch
from torch.nn.functional import normalize

from harness.sae.calibration import calibrate
from harness.sae.model import build_sae
from harness.sae.penalties import aux_k_error, linear_means, prefix_error, relu_means, spread
from harness.study.catalogue import SPARSIFIERS, parse_layers
from tests.sae.references import LATENTS, LAYERS, WIDTH, K, activations, behind, build, dense, differentiable

OUT = 4  # of the targets; the inputs have WIDTH
EVERY = pytest.mark.parametrize(
    ("layers", "sparsifier"), [(layers, sparsifier) for layers in LAYERS for sparsifier in SPARSIFIERS]
)


def pairs(tokens: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and targets that are no linear function of them."""
    x = activations(tokens).double()
    return x, (x @ torch.linspace(-1, 1, WIDTH * OUT, dtype=torch.float64).reshape(WIDTH, OUT)).tanh()


@EVERY
def test_codes_reconstruction_and_gradients_are_those_of_the_formula(layers, sparsifier):
    sae, (x, target) = build(layers, sparsifier, target_width=OUT).double(), pairs()
    x.requires_grad_()
    output, reference = sae(x, target), dense(sae, x, target)
    total = torch.stack([reconstruction for *_, reconstruction in reference]).sum(0)
    for part, (left, seen, code, reconstruction) in zip(output.coders, reference, strict=True):
        assert torch.allclose(part.target, left)
        assert torch.allclose(part.input, seen)
        assert torch.allclose(part.code.dense(), code)
        assert torch.allclose(part.reconstruction, reconstruction)
    assert torch.allclose(output.reconstruction, total)

    parameters = [x, *differentiable(sae)]
    ours = torch.autograd.grad((output.reconstruction - target).square().mean(), parameters)
    theirs = torch.autograd.grad((total - target).square().mean(), parameters)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other)


@pytest.mark.parametrize("layers", LAYERS)
def test_the_terms_of_the_loss_are_those_of_the_formula(layers):
    """Penalties look at what the coders see; aux-k and prefixes at what is left over of the target."""
    sae, (x, target) = build(layers, target_width=OUT).double(), pairs()
    output, dead = sae(x, target), torch.arange(LATENTS * (2 if layers == "sparse 2 each" else 1)) % 3 == 0
    masks, errors, prefixes, means = torch.split(dead, [c.latents for c in sae.stack()]), [], [], []
    for coder, mask, (left, seen, code, reconstruction) in zip(
        sae.stack(), masks, dense(sae, x, target), strict=True
    ):
        pre = seen @ coder.encoder.T + coder.bias
        alone = torch.where(mask, pre, -torch.inf)
        strongest = pre.relu() * (alone >= alone.topk(2, dim=1).values[:, -1:])
        answer, nothing = (behind(coder, codes @ coder.decoder) for codes in (strongest, 0 * code[:1]))
        error = left - reconstruction
        variance = (error - error.mean(0)).square().mean()
        errors.append((error - (answer - nothing)).square().mean() / variance)
        first = code * (torch.arange(coder.latents) < round(coder.latents / 2))
        prefixes.append(behind(coder, first @ coder.decoder))
        means.append((pre.mean(0), pre.relu().mean(0)))
    assert torch.allclose(aux_k_error(dead, 2)(sae, output), torch.stack(errors).mean())
    left = target - torch.stack(prefixes).sum(0)
    assert torch.allclose(prefix_error(sae, output, [0.5]), left.square().mean())
    for number, ours in enumerate((linear_means, relu_means)):
        theirs = torch.stack([mean[number].std() for mean in means]).mean()
        assert torch.allclose(spread(sae, ours(sae, output)), theirs)


@pytest.mark.parametrize("layers", LAYERS)
def test_a_prediction_needs_no_target(layers):
    sae, (x, target) = build(layers, target_width=OUT).double(), pairs()
    alone = sae(x)
    assert torch.equal(alone.reconstruction, sae(x, target).reconstruction)
    assert [part.target for part in alone.coders] == [None] * len(sae.stack())


@pytest.mark.parametrize("layers", ["none", "dense 2-2", "sparse 2"])
def test_encoder_and_decoder_start_apart_even_where_their_widths_agree(layers):
    parsed, generator = parse_layers(layers), torch.Generator().manual_seed(0)
    sizes = {"encoder": parsed.encoder, "decoder": parsed.decoder, "stack": parsed.stack}
    topk = SPARSIFIERS["topk"].load()
    sae = build_sae(WIDTH, LATENTS, K, **sizes, sparsifier=topk, generator=generator, target_width=WIDTH)
    for coder in sae.stack():
        assert coder.decoder.shape == coder.encoder.shape
        assert torch.allclose(coder.decoder.norm(dim=1), torch.ones(coder.latents), atol=1e-6)
        cosines = (normalize(coder.encoder) * normalize(coder.decoder)).sum(1)
        assert cosines.mean().abs() < 0.2


@EVERY
def test_at_evaluation_every_layer_has_its_own_k_active_latents_per_token(layers, sparsifier):
    sae, (x, _) = build(layers, sparsifier, target_width=OUT), pairs(300)
    x = x.float()
    sae.eval()
    found = calibrate(sae, x.split(128))
    assert len(found) == (len(sae.stack()) if SPARSIFIERS[sparsifier].calibrated else 0)
    for coder, part in zip(sae.stack(), sae(x).coders, strict=True):
        active = float((part.code.values > 0).sum()) / len(x)
        if sparsifier in ("batchtopk", "jumprelu"):
            assert active == pytest.approx(coder.sparsifier.k, rel=1e-3)
