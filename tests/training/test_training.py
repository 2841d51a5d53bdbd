"""A cell in training: resumption to the same bits, checkpoints that survive damage, divergence."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.checkpoint import Checkpoints
from harness.training.metrics import HeldOut
from harness.training.optimizers import OPTIMIZERS
from harness.training.stream import batch_rows
from harness.training.trainer import CURVE_POINTS, Diverged, Sinks, logging_steps, train

WIDTH = 8
DATA = torch.randn(1024, WIDTH, generator=torch.Generator().manual_seed(0))
HELD_OUT = HeldOut(torch.randn(256, WIDTH, generator=torch.Generator().manual_seed(1)), scale=1.0)


def recipe(**changes) -> Recipe:
    return Recipe(
        **{"latents": 32, "k": 4, "tokens": 640, "batch": 32, "dead_window": 64, "penalty": 0.1, **changes}
    )


def cell(**changes) -> Cell:
    return Cell(recipe(**changes), WIDTH, torch.device("cpu"))


def batches(step: int) -> torch.Tensor:
    return DATA[slice(*batch_rows(step, 32, len(DATA), 0))]


class Killed(Exception):
    pass


def run(cell: Cell, checkpoints: Checkpoints, stop_at: int | None = None):
    points = []

    def beat(tokens: int) -> None:
        if tokens == stop_at:
            raise Killed

    quality = train(cell, batches, HELD_OUT, checkpoints, 0.0, Sinks(point=points.append, beat=beat))
    return quality, points


@pytest.mark.parametrize("layers", ["none", "dense 2-2", "dense_encoder 2", "sparse 2"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_killed_cell_goes_on_to_the_same_bits(tmp_path, layers, optimizer):
    whole = cell(layers=layers, optimizer=optimizer)
    expected, curve = run(whole, Checkpoints(tmp_path / "whole"))

    first = cell(layers=layers, optimizer=optimizer)
    with pytest.raises(Killed):
        run(first, Checkpoints(tmp_path / "killed"), stop_at=7 * 32)
    second = cell(layers=layers, optimizer=optimizer)
    second.load_state(Checkpoints(tmp_path / "killed").load())
    assert second.step_index == 7
    quality, rest = run(second, Checkpoints(tmp_path / "killed"))

    assert quality == expected
    assert rest == [point for point in curve if point["step"] > 7]
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_training_learns(tmp_path):
    _, curve = run(cell(tokens=6400, lr=3e-3), Checkpoints(tmp_path))
    assert len(curve) == CURVE_POINTS
    assert curve[-1]["heldout_fvu"] < 0.6 * curve[0]["heldout_fvu"]
    assert curve[-1]["train_l0"] <= 4


def test_a_cell_whose_loss_explodes_is_diverged(tmp_path):
    with pytest.raises(Diverged, match="training FVU"):
        run(cell(lr=1e6, optimizer="muon", gradient_clip=1e9), Checkpoints(tmp_path))


def test_a_latent_is_dead_after_the_window_and_alive_when_it_fires():
    one = cell(dead_window=64)
    one.sae.coders[0].bias.data[:16] = -1e6  # the first half can never fire
    one.step(DATA[:32])
    assert one.drain()["dead_fraction"] == 0  # 32 tokens of silence: not dead yet
    one.step(DATA[32:64])
    assert one.drain()["dead_fraction"] >= 0.5


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


@given(st.integers(1, 64), st.integers(64, 1000), st.integers(0, 5))
def test_an_epoch_sees_every_whole_batch_once(batch, tokens, seed):
    count = tokens // batch
    for epoch in (0, 1):
        rows = [batch_rows(epoch * count + step, batch, tokens, seed) for step in range(count)]
        assert all(stop - start == batch and stop <= tokens for start, stop in rows)
        assert sorted(start for start, _ in rows) == [i * batch for i in range(count)]


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        return tuple(batch_rows(epoch * 50 + step, 10, 500, seed)[0] for step in range(50))

    assert len({order(0, 0), order(0, 1), order(1, 0)}) == 3
    assert order(1, 0) == order(1, 0)
    with pytest.raises(ValueError, match="needs as many"):
        batch_rows(0, 10, 9, 0)


@given(st.integers(1, 1000))
def test_the_last_step_is_always_logged(steps):
    points = logging_steps(steps)
    assert max(points) == steps
    assert min(points) >= 1
    assert len(points) == min(steps, CURVE_POINTS)
    gaps = np.diff(sorted(points))
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
