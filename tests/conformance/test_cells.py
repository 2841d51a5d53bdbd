"""What every cell keeps, whatever it is made of: the same bits, also after kills, and a noticed divergence."""

import pytest
import torch

from harness.study.catalogue import INPUTS, OPTIMIZERS, PENALTIES, SPARSIFIERS
from harness.training.checkpoint import Checkpoints
from harness.training.trainer import Diverged
from tests.training.cells import BATCH, DATA, STEPS, Killed, cell, run

# Everything that a step decides by the counters; k falls to the last step.
REMEDIES = {"k_start": 24, "k_decay": 1.0, "resample": 2 * BATCH, "aux_k": 3, "dead_window": BATCH}
CELLS = [
    *({"layers": "sparse 2", "optimizer": name, **REMEDIES} for name in OPTIMIZERS),
    *({"layers": "dense 2-2", "sparsifier": name, **REMEDIES} for name in SPARSIFIERS),
    *({"layers": "sparse 2-1", "sparsifier": name, "prefixes": "0.25-0.5"} for name in SPARSIFIERS),
    *({"layers": "sparse 2 each", "inputs": name} for name in INPUTS),
    *({"layers": "dense_encoder 2", "penalty": 0.1, "penalty_on": name} for name in PENALTIES),
    *({"precision": "bfloat16", "layers": "dense 2-2", "sparsifier": s, "penalty": 0.1} for s in SPARSIFIERS),
    {"precision": "bfloat16", **REMEDIES},
    {"precision": "tf32", "layers": "dense 2-2", "penalty": 0.1},
    {"decoder_norm": "free", "gradient_clip": None},
]


def name_of(changes) -> str:
    return " ".join(str(value) for key, value in changes.items() if key not in REMEDIES)


@pytest.mark.parametrize("changes", CELLS, ids=name_of)
def test_a_cell_that_is_killed_twice_goes_on_to_the_same_bits(tmp_path, changes):
    whole = cell(**changes)
    expected, curve = run(whole, Checkpoints(tmp_path / "whole"))

    checkpoints = Checkpoints(tmp_path / "killed")
    with pytest.raises(Killed):
        run(cell(**changes), checkpoints, stop_at=14)  # between two points; SOAP has turned its bases at the 12th
    second = cell(**changes)
    second.load_state(checkpoints.load())
    assert second.step_index == 14
    with pytest.raises(Killed) as killed:
        run(second, checkpoints, stop_at=STEPS)
    third = cell(**changes)
    third.load_state(checkpoints.load())
    quality, rest = run(third, checkpoints)

    assert killed.value.points == [point for point in curve if point["step"] > 14]
    assert rest == []
    assert quality == expected
    if not whole.calibrated:  # a point's thresholds are set on fewer tokens; all held-out ones are behind both
        assert curve[-1]["heldout_fvu"] == expected.fvu
    ours, theirs = whole.state(), third.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("changes", CELLS, ids=name_of)
def test_two_builds_have_the_same_bits_and_another_seed_has_others(changes):
    first, second, other = cells = [cell(**changes, seed=seed) for seed in (0, 0, 1)]
    for one in cells:
        one.step(DATA[:BATCH])
    ours, theirs = first.state(), second.state()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(first.sae.coders[0].encoder, other.sae.coders[0].encoder)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("sparsifier", ["topk", "jumprelu"])
def test_a_cell_that_explodes_is_diverged_and_nothing_else(tmp_path, optimizer, sparsifier):
    one = cell(
        layers="dense 2-2",
        optimizer=optimizer,
        sparsifier=sparsifier,
        tokens=10 * STEPS * BATCH,  # 17 steps to the first of 4 points of the curve
        lr=1e30,
        gradient_clip=None,
        **REMEDIES,
    )
    with pytest.raises(Diverged, match="training FVU"):
        run(one, Checkpoints(tmp_path), count=4)
