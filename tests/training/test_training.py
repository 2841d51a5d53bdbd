"""A cell in training: checkpoints that survive damage, divergence, death, the order of the batches."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.study.curve import DENSER, POINTS, curve_tokens, logging_steps
from harness.training.checkpoint import Checkpoints
from harness.training.metrics import WINDOWS
from harness.training.trainer import Diverged, Stopwatch, resume
from tests.training.cells import DATA, MEAN, STEPS, WIDTH, Killed, cell, recipe, run


def test_training_learns(tmp_path):
    _, curve = run(cell(tokens=6400, lr=3e-3), Checkpoints(tmp_path))
    assert len(curve) == POINTS
    first, *_, last = [point["heldout_fvu"] for point in curve if "heldout_fvu" in point]
    assert last < 0.6 * first
    assert curve[-1]["train_l0"] <= 4


def test_a_cell_whose_loss_explodes_is_diverged(tmp_path):
    with pytest.raises(Diverged, match="FVU"):
        run(cell(lr=1e6, optimizer="muon", gradient_clip=1e9), Checkpoints(tmp_path))


def test_a_latent_is_dead_after_the_window_and_alive_when_it_fires():
    one = cell(dead_window=64)
    one.sae.coders[0].bias.data[:16] = -1e6  # the first half can never fire
    one.step(DATA[:32])
    assert "dead_fraction" not in one.drain()  # of 64 tokens 32 have been seen: it is not known yet
    one.step(DATA[32:64])
    assert one.drain()["dead_fraction"] >= 0.5


def test_dead_fractions_of_all_windows_are_of_one_counter(monkeypatch):
    monkeypatch.setitem(WINDOWS, "dead_fraction_1_5m_tokens", 96)
    one = cell(dead_window=32)
    for step in range(4):
        one.step(DATA[32 * step :][:32])
        figures = one.drain()
        assert ("dead_fraction_1_5m_tokens" in figures) == (step >= 2)  # else absent, not 0
    assert figures["dead_fraction"] == float((one.last_fired <= 96).float().mean())
    assert figures["dead_fraction_1_5m_tokens"] == float((one.last_fired <= 32).float().mean())
    assert "dead_fraction_10m_tokens" not in figures


def test_deaths_and_revivals_between_points_are_counted():
    one = cell(dead_window=32)
    bias, before = one.sae.coders[0].bias.data, torch.zeros(32, dtype=torch.bool)
    for step in range(6):
        bias[:8] = -1e6 if step < 3 else 1e6  # no latent can fire, then all of them do
        one.step(DATA[32 * step :][:32])
        figures, now = one.drain(), one.silent(32)
        assert figures["died_fraction"] == float((now & ~before).float().mean())
        assert figures["revived_fraction"] == float((before & ~now).float().mean())
        assert figures["died_fraction"] >= (step == 0) * 8 / 32
        assert figures["revived_fraction"] >= (step == 3) * 8 / 32
        before = now
    assert before.any()
    resumed = cell(dead_window=32)
    resumed.load_state(one.state())
    assert resumed.drain()["died_fraction"] == 0  # they had died before the checkpoint


def test_training_figures_are_those_of_the_batches_before_their_updates():
    one, copy = cell(), cell()
    error = squares = 0.0
    for step in range(3):
        x = DATA[32 * step :][:32]
        error += float((x - copy.code(x).reconstruction.detach()).square().sum())
        squares += float(x.square().sum())
        copy.step(x)
        one.step(x)
    figures = one.drain()
    assert figures["fvu"] == pytest.approx(error / squares, rel=1e-5)
    assert 3 < figures["l0"] <= 4
    assert one.drain()["fvu"] == 0  # nothing since


def test_a_cell_codes_in_the_activations_own_terms():
    one = cell(inputs="uncentred")
    output = one.code(DATA[:5])
    assert torch.equal(output.coders[0].target, DATA[:5] + MEAN)
    assert torch.allclose(output.reconstruction, output.coders[0].reconstruction - MEAN, atol=1e-5)
    assert output.reconstruction.shape == (5, WIDTH)


def test_the_last_measurement_is_at_k_whenever_it_was_reached(tmp_path):
    """k falls to the last step, which itself is taken with 5; the result is that of an SAE of 4."""
    one = cell(k=4, k_start=24, k_decay=1.0)
    quality, curve = run(one, Checkpoints(tmp_path))
    assert one.step_index == STEPS
    assert 3 < quality.l0 <= 4
    l0 = [point["heldout_l0"] for point in curve if "heldout_l0" in point]
    assert 4 < l0[len(l0) // 2] <= 24


@pytest.mark.parametrize("decoder_norm", ["unit", "free"])
def test_decoder_rows_are_held_at_unit_norm_if_wanted(decoder_norm):
    one = cell(decoder_norm=decoder_norm)
    for step in range(3):
        one.step(DATA[32 * step :][:32])
    (norms,) = (decoder.norm(dim=1) for decoder in one.sae.decoders())
    assert torch.allclose(norms, torch.ones(32), atol=1e-6) == (decoder_norm == "unit")


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, {"x": torch.full((4,), float(step))})
    newest = max(tmp_path.glob("*"))
    content = newest.read_bytes()
    flipped = content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]
    newest.write_bytes({"torn": content[:-7], "flipped": flipped, "empty": b""}[damage])
    assert checkpoints.load()["x"].tolist() == [2.0] * 4
    assert len(list(tmp_path.glob("*"))) == 2
    checkpoints.clear()
    assert checkpoints.load() is None


@given(st.integers(1, 100_000), st.integers(1, 300))
def test_points_are_denser_at_the_start_and_the_last_step_is_one(steps, points):
    logged = logging_steps(steps, points)
    assert len(logged) == min(steps, points)
    assert logged == sorted(set(logged))
    assert logged[0] >= 1
    assert logged[-1] == steps
    gaps = np.diff([0, *logged])
    assert all(after >= before - 1 for before, after in pairwise(gaps))  # but for rounding
    if steps > 100 * points > 1000:
        assert gaps[-1] / gaps[0] == pytest.approx(DENSER, rel=0.3)


def test_every_fourth_point_has_held_out_figures_the_last_one_included(tmp_path):
    for count in (1, 3, 10):
        _, curve = run(cell(), Checkpoints(tmp_path / str(count)), count=count)
        held_out = ["heldout_fvu" in point for point in curve]
        assert held_out == [(count - 1 - place) % 4 == 0 for place in range(count)]
        assert held_out == ["measured_tokens" in point for point in curve]
        assert all("train_fvu" in point for point in curve)


def test_a_point_is_of_held_out_tokens_in_proportion_to_the_training():
    sizes = {tokens: curve_tokens(recipe(tokens=tokens)) for tokens in (1_000, 200_000, 1_000_000, 10**9)}
    assert sizes == {1_000: 256, 200_000: 256, 1_000_000: 1250, 10**9: 2048}


@pytest.mark.parametrize("changes", [{}, {"optimizer": "schedule_free_adam"}, {"aux_k": 8}])
def test_points_change_nothing_that_is_trained(tmp_path, changes):
    few, many = cell(**changes), cell(**changes)
    assert len(run(few, Checkpoints(tmp_path / "few"), count=1)[1]) == 1
    assert len(run(many, Checkpoints(tmp_path / "many"), count=STEPS)[1]) == STEPS
    weights = dict(few.sae.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in many.sae.named_parameters())


def test_a_curve_goes_on_with_the_points_that_it_was_begun_with(tmp_path):
    """The study asks for others meanwhile: a cell's curve is one curve."""
    _, whole = run(cell(), Checkpoints(tmp_path / "whole"), count=4)
    checkpoints, clock = Checkpoints(tmp_path / "parts"), Stopwatch()
    with pytest.raises(Killed) as killed:
        run(cell(), checkpoints, stop_at=13, count=4)
    there = {point["step"] for point in killed.value.points}
    second = cell()
    assert resume(second, checkpoints, clock, there, 9) == 4
    assert second.step_index == 13
    third = cell()
    assert resume(third, checkpoints, clock, there - {min(there)}, 9) == 9  # a point is lost: it begins anew
    assert third.step_index == 0
    _, rest = run(second, checkpoints, count=4)
    assert killed.value.points + rest == whole
