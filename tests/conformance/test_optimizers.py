"""What every optimizer keeps: it owns each parameter once, moves them all, lowers the loss, and can be resumed."""

import pytest
import torch

from harness.study.catalogue import OPTIMIZERS
from harness.training.checkpoint import Checkpoints
from harness.training.optimizers import averaged_weights, build_optimizers, set_learning_rate
from harness.training.state import pack, unpack
from tests.sae.references import activations, build
from tests.training.cells import recipe

EVERY = pytest.mark.parametrize("name", OPTIMIZERS)
RATES = {"sgd": 0.3, "lion": 3e-3, "signum": 3e-3}


def prepared(name, sparsifier="jumprelu"):
    sae = build("dense 2-2", sparsifier)
    return sae, build_optimizers(recipe(optimizer=name, lr=RATES.get(name, 1e-2)), sae)


def steps(sae, optimizers, count):
    losses, x = [], activations(64)
    for _ in range(count):
        loss = (sae(x).reconstruction - x).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return losses


@EVERY
def test_moves_every_parameter_and_lowers_the_loss(name):
    sae, optimizers = prepared(name)
    before = [p.detach().clone() for p in sae.parameters()]
    losses = steps(sae, optimizers, 40)
    assert losses[-1] < 0.8 * losses[0]
    assert all(not torch.equal(p, old) for p, old in zip(sae.parameters(), before, strict=True))
    assert all(p.dtype == torch.float32 for p in sae.parameters())


@EVERY
def test_owns_each_parameter_once_and_takes_its_rate_from_outside(name):
    sae, optimizers = prepared(name)
    owned = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in sae.parameters())
    set_learning_rate(optimizers, 1e-12)
    before = [p.detach().clone() for p in sae.parameters()]
    steps(sae, optimizers, 3)
    assert all(torch.allclose(p, old, atol=1e-6) for p, old in zip(sae.parameters(), before, strict=True))


@EVERY
def test_averaged_weights_are_gone_afterwards(name):
    sae, optimizers = prepared(name)
    steps(sae, optimizers, 5)
    before = [p.detach().clone() for p in sae.parameters()]
    with averaged_weights(optimizers):
        inside = [p.detach().clone() for p in sae.parameters()]
    assert all(torch.allclose(p, old, atol=1e-6) for p, old in zip(sae.parameters(), before, strict=True))
    moved = any(not torch.allclose(p, old, atol=1e-6) for p, old in zip(inside, before, strict=True))
    assert moved == OPTIMIZERS[name].schedule_free
    steps(sae, optimizers, 1)  # back in training, or schedule-free ones would refuse


def apply(sae, optimizers, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for parameter in sae.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()


@EVERY
def test_wide_matrices_are_resumed_to_the_same_bits(name, tmp_path):
    """Wide enough for products whose bits depend on how their factors lie in memory."""
    sae, resumed = (build("none", width=48, latents=96) for _ in range(2))
    optimizers, others = (build_optimizers(recipe(optimizer=name), model) for model in (sae, resumed))
    apply(sae, optimizers, range(13))
    Checkpoints(tmp_path).save(13, pack([optimizer.state_dict() for optimizer in optimizers]))
    resumed.load_state_dict(sae.state_dict())
    for optimizer, saved in zip(others, unpack(Checkpoints(tmp_path).load()), strict=True):
        optimizer.load_state_dict(saved)
    apply(sae, optimizers, range(13, 16))
    apply(resumed, others, range(13, 16))
    assert all(torch.equal(one, other) for one, other in zip(sae.parameters(), resumed.parameters(), strict=True))
