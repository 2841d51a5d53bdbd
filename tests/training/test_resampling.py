"""Resampling: the restarted rows are what the source says, and nothing else has changed."""

import pytest
import torch

from harness.sae.model import SAE
from harness.sae.penalties import activity
from harness.training.optimizers import Optimizer, build_optimizers
from harness.training.resampling import resample, sources
from tests.sae.references import activations, build
from tests.training.cells import BATCH, DATA, cell, recipe

DEAD = {"none": [3, 40], "sparse 2": [0, 5, 30], "dense 1-3-2-1": [7], "dense 2-2": [1, 2]}


def trained(layers: str, optimizer: str, sparsifier: str = "topk") -> tuple[SAE, list[Optimizer]]:
    """An SAE with moments behind it."""
    sae = build(layers, sparsifier)
    optimizers = build_optimizers(recipe(optimizer=optimizer), sae)
    for _ in range(3):
        output = sae(activations())
        ((output.reconstruction - 1).square().mean() + activity(sae, output)).backward()
        for one in optimizers:
            one.step()
            one.zero_grad()
    return sae, optimizers


def mask(sae: SAE, layers: str) -> torch.Tensor:
    return torch.isin(torch.arange(sae.latents), torch.tensor(DEAD[layers]))


@pytest.mark.parametrize("layers", DEAD)
def test_dead_latents_become_directions_of_the_input_and_nothing_else_changes(layers):
    sae, optimizers = trained(layers, "adam")
    dead, output = mask(sae, layers), sae(activations())
    before = {name: p.detach().clone() for name, p in sae.named_parameters()}
    norms = [coder.encoder.norm(dim=1) for coder in sae.stack()]
    resample(sae, sources(output), dead, optimizers, torch.Generator().manual_seed(0))

    masks = torch.split(dead, [coder.latents for coder in sae.stack()])
    for coder, part, rows, norm in zip(sae.stack(), output.coders, masks, norms, strict=True):
        directions = torch.nn.functional.normalize(part.input, dim=1)
        assert torch.allclose(coder.encoder[rows].norm(dim=1), 0.2 * norm[~rows].mean(), atol=1e-6)
        restarted = torch.nn.functional.normalize(coder.encoder[rows], dim=1)
        nearest = (restarted @ directions.T).argmax(1)
        assert torch.allclose(restarted, directions[nearest], atol=1e-6)  # each is some token's direction
        assert not coder.bias[rows].any()
        if coder.decoder.shape == coder.encoder.shape:
            assert torch.allclose(coder.decoder[rows], restarted, atol=1e-6)

    alive = {"encoder", "bias", "decoder"}
    starts = {f"coders.{i}.{name}": rows for i, rows in enumerate(masks) for name in alive}
    for name, parameter in sae.named_parameters():
        kept = ~starts[name] if name in starts else slice(None)
        assert torch.equal(parameter[kept], before[name][kept]), name
    if layers == "dense 1-3-2-1":  # a decoder of another width than the encoder: no direction is known
        assert torch.equal(sae.stack()[0].decoder, before["coders.0.decoder"])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon", "schedule_free_adam", "signum", "lion", "sgd"])
def test_the_optimizer_forgets_the_restarted_rows_alone(optimizer):
    sae, optimizers = trained("sparse 2", optimizer)
    dead = mask(sae, "sparse 2")
    states = [one.state for one in optimizers]
    before = [
        {p: {name: v.clone() for name, v in moments.items() if torch.is_tensor(v)} for p, moments in s.items()}
        for s in states
    ]
    resample(sae, sources(sae(activations())), dead, optimizers, torch.Generator().manual_seed(0))

    masks = torch.split(dead, [coder.latents for coder in sae.stack()])
    rows_of = {id(p): m for c, m in zip(sae.stack(), masks, strict=True) for p in (c.encoder, c.bias, c.decoder)}
    seen = set()
    for state, old in zip(states, before, strict=True):
        for parameter, moments in old.items():
            rows = rows_of.get(id(parameter), torch.zeros(len(parameter), dtype=torch.bool))
            for name, moment in moments.items():
                now = state[parameter][name]
                if now.shape != parameter.shape:
                    assert torch.equal(now, moment)  # a count of steps
                    continue
                seen.add(name)
                assert torch.equal(now[~rows], moment[~rows])
                assert torch.equal(now[rows], parameter[rows] if name == "z" else torch.zeros_like(now[rows]))
    assert seen
    assert ("z" in seen) == (optimizer in ("schedule_free_adam", "signum"))


@pytest.mark.parametrize("optimizer", ["adam", "muon", "schedule_free_adam"])
@pytest.mark.parametrize("layers", ["none", "sparse 2", "dense 2-2"])
def test_jumprelus_thresholds_start_again_with_their_latents(layers, optimizer):
    """At one standard deviation of the new row's pre-activation, as all did; no moment is left of the old ones."""
    sae, optimizers = trained(layers, optimizer, "jumprelu")
    dead = mask(sae, layers)
    masks = torch.split(dead, [coder.latents for coder in sae.stack()])
    for coder, rows in zip(sae.stack(), masks, strict=True):
        coder.sparsifier.log_threshold.data[rows] = 20  # why they are dead: nothing reaches e^20
    before = [coder.sparsifier.log_threshold.detach().clone() for coder in sae.stack()]
    output = sae(activations())
    resample(sae, sources(output), dead, optimizers, torch.Generator().manual_seed(0))

    for coder, rows, old in zip(sae.stack(), masks, before, strict=True):
        threshold = coder.sparsifier.log_threshold
        norms = torch.linalg.vector_norm(coder.encoder[rows], dim=1)
        assert torch.allclose(threshold[rows].exp(), coder.encoder_mlp.scale * norms, rtol=1e-4)
        assert torch.equal(threshold[~rows], old[~rows])
        moments = {name: v for one in optimizers for name, v in one.state.get(threshold, {}).items()}
        kept = {name: v for name, v in moments.items() if torch.is_tensor(v) and v.shape == threshold.shape}
        assert kept
        for name, value in kept.items():
            assert torch.equal(value[rows], threshold[rows] if name == "z" else torch.zeros_like(value[rows]))
            assert value[~rows].any()


def test_a_latent_that_died_of_its_threshold_fires_again_after_resampling():
    one = cell(sparsifier="jumprelu", resample=2 * BATCH, dead_window=BATCH)
    one.sae.coders[0].sparsifier.log_threshold.data[:16] = 20
    for step in range(3):
        one.step(DATA[BATCH * step :][:BATCH])
    assert (one.last_fired[:16] == 3 * BATCH).float().mean() > 0.5


def test_tokens_are_drawn_by_their_squared_loss():
    sae, optimizers = trained("none", "sgd")
    x = activations(2)
    x[1] *= 20  # its loss is hundreds of times as large, and that squared decides
    resample(
        sae,
        sources(sae(x)),
        torch.ones(sae.latents, dtype=torch.bool),
        optimizers,
        torch.Generator().manual_seed(0),
    )
    direction = torch.nn.functional.normalize(x[1], dim=0)
    assert torch.allclose(sae.stack()[0].decoder, direction.expand(sae.latents, -1), atol=1e-6)
    assert torch.allclose(sae.stack()[0].encoder.norm(dim=1), torch.tensor(0.2), atol=1e-6)  # none is alive


def test_a_cell_resamples_what_was_silent_and_gives_it_another_window():
    one = cell(resample=2 * BATCH, dead_window=BATCH, decoder_norm="free", gradient_clip=None)
    one.sae.coders[0].bias.data[:5] = -1e6
    one.step(DATA[:BATCH])
    assert one.dead()[:5].all()
    one.step(DATA[:BATCH])  # the second step resamples behind it
    assert not one.dead().any()
    assert one.silent(one.recipe.dead_window)[
        :5
    ].all()  # none has fired within the window, and that is what the curve shows
    assert one.drain()["dead_fraction"] >= 5 / 32
    assert not one.sae.coders[0].bias[:5].any()
    one.step(DATA[:BATCH])
    assert (one.sae.coders[0].bias[:5].abs() <= 0.1).all()


def test_aux_k_leaves_restarted_latents_their_window(monkeypatch):
    """The loss takes for dead what resampling does: a latent that has just started again is not."""
    import harness.training.cell as module

    given = []
    backward = module.backward
    monkeypatch.setattr(
        module,
        "backward",
        lambda r, s, x, dead, **more: given.append(dead.clone()) or backward(r, s, x, dead, **more),
    )
    one = cell(tokens=20 * BATCH, dead_window=2 * BATCH, resample=4 * BATCH, aux_k=3)
    with torch.no_grad():
        one.sae.coders[0].bias[:5] = -100.0
    for start in range(0, 6 * BATCH, BATCH):
        one.step(DATA[start : start + BATCH])
    assert given[3][:5].all()
    assert not given[4][:5].any()
    assert not given[5][:5].any()
