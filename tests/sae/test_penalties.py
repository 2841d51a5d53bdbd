"""Each auxiliary term and its gradients against its formula, written out densely."""

import pytest
import torch

from harness.sae.penalties import activity, aux_k_error, prefix_error, spread_at_unit_norm
from harness.study.catalogue import PENALTIES, SPARSIFIERS
from tests.sae.references import LAYERS, activations, before, behind, build, dense, differentiable

EVERY_LAYERS = pytest.mark.parametrize("layers", LAYERS)


def same(ours, expected, inputs) -> None:
    """Two numbers and their gradients; an input that neither depends on has none in either."""
    assert torch.allclose(ours, expected)
    mine = torch.autograd.grad(ours, inputs, allow_unused=True, materialize_grads=True)
    theirs = torch.autograd.grad(expected, inputs, allow_unused=True, materialize_grads=True)
    assert any(grad.any() for grad in theirs)
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other)


def small(layers, sparsifier="topk"):
    return build(layers, sparsifier).double(), activations().double().requires_grad_()


@pytest.mark.parametrize("variant", ["relu", "linear"])
@EVERY_LAYERS
def test_a_spread_is_the_standard_deviation_of_the_latents_means(variant, layers):
    sae, x = small(layers)
    activate = {"relu": torch.relu, "linear": lambda pre: pre}[variant]
    spreads = [
        activate(seen @ coder.encoder.T + coder.bias).mean(0).std()
        for coder, (_, seen, _, _) in zip(sae.stack(), dense(sae, x), strict=True)
    ]
    same(PENALTIES[variant].load()(sae, sae(x)), torch.stack(spreads).mean(), [x, *sae.parameters()])


def test_spreads_by_hand():
    sae = build("none", width=1, latents=2, k=1)
    (coder,) = sae.stack()
    coder.encoder.data, coder.bias.data = torch.tensor([[1.0], [-1.0]]), torch.tensor([0.0, 1.0])
    output = sae(torch.tensor([[2.0], [4.0]]))  # pre-activations [2, -1] and [4, -3]: means 3 and -2, or 3 and 0
    assert PENALTIES["linear"].load()(sae, output).item() == pytest.approx(5 / 2**0.5)
    assert PENALTIES["relu"].load()(sae, output).item() == pytest.approx(3 / 2**0.5)


@EVERY_LAYERS
def test_activity_of_relu_is_the_sum_of_the_codes(layers):
    sae, x = small(layers, "relu")
    expected = torch.stack([code.sum() / len(x) for _, _, code, _ in dense(sae, x)]).sum()
    same(activity(sae, sae(x)), expected, [x, *sae.parameters()])


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
@EVERY_LAYERS
def test_prefixes_reconstruct_alone(layers, sparsifier):
    sae, x = small(layers, sparsifier)
    shares = (0.1, 0.5)
    expected = torch.zeros((), dtype=torch.float64)
    for share in shares:
        total = torch.zeros_like(x)
        for coder, (_, _, code, _) in zip(sae.stack(), dense(sae, x), strict=True):
            first = max(1, round(share * coder.latents))
            total = total + behind(coder, code[:, :first] @ coder.decoder[:first])
        expected = expected + (x - total).square().mean()
    same(prefix_error(sae, sae(x), shares), expected, [x, *differentiable(sae)])


def aux_k_reference(sae, x, dead, k):
    """The k largest dead pre-activations, and what they add to the decoder's answer, against the error."""
    terms, start = [], 0
    for coder, (target, seen, _, reconstruction) in zip(sae.stack(), dense(sae, x), strict=True):
        mask = dead[start : start + coder.latents]
        start += coder.latents
        pre = (seen @ coder.encoder.T + coder.bias).masked_fill(~mask, -torch.inf)
        chosen = min(k, int(mask.sum()))
        code = torch.zeros_like(pre).scatter(1, *reversed(pre.topk(chosen, dim=1))).relu()
        answer = behind(coder, code @ coder.decoder) - behind(coder, 0 * code @ coder.decoder)
        error = (target - reconstruction).detach()
        variance = (error - error.mean(0)).square().mean()
        terms.append((error - answer).square().mean() / variance * min(1.0, int(mask.sum()) / k))
    return torch.stack(terms).mean()


@pytest.mark.parametrize(("share", "k"), [(0.5, 3), (0.1, 8), (1.0, 500)])
@EVERY_LAYERS
def test_dead_latents_learn_from_the_error(layers, share, k):
    sae, x = small(layers)
    dead = torch.rand(sae.latents, generator=torch.Generator().manual_seed(6)) < share
    same(aux_k_error(dead, k)(sae, sae(x)), aux_k_reference(sae, x, dead, k), [x, *sae.parameters()])


def test_nothing_is_learnt_where_no_latent_is_dead():
    sae, x = small("dense 2-2")
    error = aux_k_error(torch.zeros(sae.latents, dtype=torch.bool), 4)(sae, sae(x))
    assert error == 0
    assert not error.requires_grad


def test_only_dead_latents_and_what_lies_around_them_learn_from_the_error():
    sae, x = small("none")
    (coder,) = sae.stack()
    dead = torch.arange(coder.latents) % 2 == 0
    grads = torch.autograd.grad(aux_k_error(dead, 4)(sae, sae(x)), [coder.encoder, coder.bias, coder.decoder])
    for grad in grads:
        assert grad[dead].any()
        assert not grad[~dead].any()
    assert torch.equal(before(coder, x), x)


# At initialisation an SAE on tokens of norm 1 is the same function of them, scaled: shallow ones are linear, and a
# LayerNorm forgets the scale. The loss in its unit, times D, is that of an SAE here with the converted weight.
@pytest.mark.parametrize("layers", ["none", "dense 2-2", "dense_encoder 2", "sparse 2 each"])
@pytest.mark.parametrize("name", ["relu", "linear"])
def test_a_weight_for_tokens_of_norm_1_is_converted(layers, name):
    width = 16
    sae = build(layers, width=width, latents=64)
    for coder in sae.stack():
        coder.bias.data.zero_()
        coder.decoder_mlp.bias_out.data.zero_()
        for block in coder.encoder_mlp.blocks:
            block.bias.data.zero_()
    x = activations(50, width)
    here, there = sae(x), sae(x / width**0.5)
    term = PENALTIES[name].load()
    error = (x / width**0.5 - here.reconstruction.detach() / width**0.5).square().mean()  # in their unit
    expected = width * (error + 1e-4 * term(sae, there))
    converted = PENALTIES[f"{name}_at_unit_norm"].load()
    ours = (x - here.reconstruction).square().mean() + 1e-4 * converted(sae, here)
    assert torch.allclose(ours, expected, rtol=1e-4)
    factor = width if layers.startswith("dense") else width**0.5
    assert torch.allclose(converted(sae, here), factor * term(sae, here))


def test_the_conversion_at_the_width_of_gpt_2():
    one = torch.tensor([0.0, 2.0**0.5])  # of standard deviation 1
    for layers, expected in {"none": 2.77e-3, "dense 2-2": 0.0768}.items():
        sae = build(layers, width=768, latents=16)
        assert 1e-4 * float(spread_at_unit_norm(sae, [one])) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_what_dead_latents_learn_from_weighs_the_same_however_small_the_error_is(scale):
    """Gao et al.'s scale: 1 at first, when their answer is nothing."""
    sae, x = small("none")
    coder = sae.stack()[0]
    coder.decoder_mlp.bias_out.data.zero_()
    coder.decoder.data *= 1e-9  # so that what any latent answers is nothing beside the error
    term = aux_k_error(torch.ones(sae.latents, dtype=torch.bool), 4)(sae, sae(scale * (x - x.mean(0))))
    assert float(term.detach()) == pytest.approx(1, abs=1e-4)
