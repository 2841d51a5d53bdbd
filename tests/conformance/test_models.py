"""What every SAE keeps, whatever its layers, sparsifier and sizes: shapes, dtypes, roles, gradients, costs."""

import pytest
import torch

from harness.sae.calibration import calibrate, needs_calibration
from harness.sae.penalties import activity, aux_k_error, prefix_error
from harness.sae.roles import MATRICES, Role, parameter_roles
from harness.study.catalogue import INPUTS, PENALTIES, SPARSIFIERS, members
from harness.study.plan import cost
from harness.study.recipe import RECIPE_FIELDS, Recipe
from harness.training.centring import Centring
from tests.sae.references import LATENTS, LAYERS, WIDTH, K, activations, build

EVERY = pytest.mark.parametrize(
    ("layers", "sparsifier"), [(layers, sparsifier) for layers in LAYERS for sparsifier in SPARSIFIERS]
)


@pytest.mark.parametrize("spec", members(), ids=lambda spec: f"{type(spec).__name__} {spec.name}")
def test_a_member_has_code_and_reads_fields_of_the_recipe(spec):
    assert callable(spec.load())
    assert set(spec.reads) <= set(RECIPE_FIELDS)


def whole_loss(sae, output, x):
    """All terms at once."""
    terms = [(x - output.reconstruction).square().mean(), activity(sae, output), prefix_error(sae, output, (0.5,))]
    terms += [penalty.load()(sae, output) for penalty in PENALTIES.values()]
    dead = torch.arange(sae.latents) % 3 == 0
    return torch.stack([*terms, aux_k_error(dead, 3)(sae, output)]).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tokens", [0, 1, 9])
@EVERY
def test_shapes_and_dtypes(layers, sparsifier, tokens, dtype):
    sae, x = build(layers, sparsifier).to(dtype), activations(tokens).to(dtype)
    for _ in ("training", "evaluation"):
        output = sae(x)
        assert (output.reconstruction.shape, output.reconstruction.dtype) == (x.shape, dtype)
        assert torch.isfinite(output.reconstruction).all()
        for coder, part in zip(sae.stack(), output.coders, strict=True):
            assert part.code.dense().shape == (tokens, coder.latents)
            assert part.code.values.dtype == dtype
            if (looked_at := part.code.pre_activations) is not None:  # None where a shortlist was enough
                assert (looked_at.shape, looked_at.dtype) == ((tokens, coder.latents), dtype)
            assert (part.code.values >= 0).all()
            assert part.code.fired().shape == (coder.latents,)
            assert part.reconstruction.shape == part.target.shape == x.shape
        sae.eval()


@pytest.mark.parametrize(("width", "latents", "k"), [(7, 17, 5), (3, 64, 5), (13, 16, 5), (1, 15, 5)])
@EVERY
def test_odd_sizes(layers, sparsifier, width, latents, k):
    sae, x = build(layers, sparsifier, width=width, latents=latents, k=k), activations(5, width)
    output = sae(x)
    whole_loss(sae, output, x).backward()
    assert output.reconstruction.shape == x.shape
    assert all(torch.isfinite(p.grad).all() for p in sae.parameters())
    if sparsifier == "topk":
        assert sum(len(part.code.values) for part in output.coders) == 5 * sum(c.sparsifier.k for c in sae.stack())


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
@pytest.mark.parametrize("layers", ["none", "dense 2-2", "dense_encoder 2", "sparse 2 each"])
def test_one_active_latent(layers, sparsifier):
    sae = build(layers, sparsifier, latents=5, k=1)
    output = sae(activations(5))
    whole_loss(sae, output, activations(5)).backward()
    assert all(torch.isfinite(p.grad).all() for p in sae.parameters())
    if sparsifier in ("topk", "batchtopk"):
        assert all(len(part.code.values) <= 5 for part in output.coders)


@EVERY
def test_every_parameter_has_a_role_and_a_gradient_and_the_plan_counts_it(layers, sparsifier):
    sae, x = build(layers, sparsifier, width=8), activations(200, 8)
    roles = parameter_roles(sae)
    assert set(roles) == {name for name, _ in sae.named_parameters()}
    assert all((roles[name] in MATRICES) == (p.ndim == 2) for name, p in sae.named_parameters())
    latents = [p for name, p in sae.named_parameters() if roles[name] == Role.THRESHOLD]
    assert len(latents) == SPARSIFIERS[sparsifier].parameters * len(sae.stack())
    whole_loss(sae, sae(x), x).backward()
    for name, parameter in sae.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name
    price = cost(Recipe(latents=LATENTS, k=K, tokens=2048, layers=layers, sparsifier=sparsifier, sparsity=1.0), 8)
    assert price.parameters == sum(p.numel() for p in sae.parameters())
    assert price.step.selected == price.batch * sae.latents
    assert SPARSIFIERS[sparsifier].shortlisted == sae.stack()[0].sparsifier.SHORTLIST


@EVERY
def test_two_builds_and_two_passes_have_the_same_bits(layers, sparsifier):
    grads = []
    for _ in range(2):
        sae, x = build(layers, sparsifier), activations()
        whole_loss(sae, sae(x), x).backward()
        grads.append([p.grad for p in sae.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
@pytest.mark.parametrize("layers", LAYERS)
def test_at_evaluation_a_token_is_coded_as_if_it_were_alone(layers, sparsifier):
    sae, x = build(layers, sparsifier), activations(20)
    sae.eval()
    calibrate(sae, [x[:11]])
    x = x[11:]
    alone = torch.cat([sae(row[None]).reconstruction for row in x])
    assert torch.allclose(sae(x).reconstruction, alone, atol=1e-5)


@EVERY
def test_at_evaluation_every_layer_has_its_own_k_active_latents_per_token(layers, sparsifier):
    """On the tokens that it was calibrated on, as one batch or as several: all but ReLU, which has no k."""
    sae, x = build(layers, sparsifier), activations(300)
    sae.eval()
    found = calibrate(sae, x.split(128))
    assert len(found) == (len(sae.stack()) if needs_calibration(sae) else 0)
    for coder, part in zip(sae.stack(), sae(x).coders, strict=True):
        active = float((part.code.values > 0).sum()) / len(x)
        if SPARSIFIERS[sparsifier].holds_k:
            # top-k takes entries below zero where no others are left, which do not fire
            assert active == pytest.approx(coder.sparsifier.k, rel=0.1 if sparsifier == "topk" else 1e-3)
    assert [layer.l0 for layer in found] == [coder.sparsifier.k for coder in sae.stack()][: len(found)]


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_come_back_in_the_activations_own_terms(name):
    """Held against what torch makes of activations in the language model's own units."""
    std = torch.linspace(0, 3, WIDTH)  # the first dimension is constant
    centring = Centring(torch.linspace(-2, 2, WIDTH), torch.tensor(2.0), std)
    raw = centring.mean + std * activations()
    raw[0], raw[1] = centring.mean, centring.mean[0]  # nothing is left of these, less one or the other mean
    x = centring.centre(raw)
    inputs = INPUTS[name].load()()
    given = inputs.there(x, centring)
    assert given.x.shape == x.shape
    assert torch.isfinite(given.x).all()
    assert torch.allclose(inputs.back(given.x, centring, given.token), x, atol=1e-5)
    centred = raw - centring.mean
    expected = {
        "centred": centred / centring.scale,
        "uncentred": raw / centring.scale,
        "standardised": torch.cat([torch.zeros(len(raw), 1), centred[:, 1:] / std[1:]], dim=1),
        "unit_norm": torch.nn.functional.normalize(centred) * WIDTH**0.5,
        "layer_norm": torch.nn.functional.layer_norm(raw, (WIDTH,), eps=1e-12),
    }
    assert torch.allclose(given.x, expected[name], atol=1e-4)
    assert (given.token is not None) == INPUTS[name].per_token
