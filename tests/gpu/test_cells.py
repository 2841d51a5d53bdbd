"""On one GPU every cell repeats its bits, also when it was killed: with graphs, and before there are any."""

import pytest
import torch

from harness.sae.gpu import shortlist
from harness.training.cell import Cell
from tests.conformance.test_cells import CELLS, name_of
from tests.gpu.commands import ON
from tests.training.cells import CENTRING, STEPS, WIDTH, batches, recipe
from tests.training.test_transcoder import CELLS as TRANSCODERS
from tests.training.test_transcoder import OUT, TARGET_CENTRING
from tests.training.test_transcoder import batches as pairs


def trained(changes, until=STEPS, state=None) -> Cell:
    one = Cell(recipe(**changes), WIDTH, torch.device(ON), CENTRING)
    if state is not None:
        one.load_state(state)
    for step in range(one.step_index, until):
        one.step(batches(step).input.to(ON))
    return one


def transcoder(changes, until=STEPS, state=None) -> Cell:
    one = Cell(
        recipe(**changes), WIDTH, torch.device(ON), CENTRING, target_width=OUT, target_centring=TARGET_CENTRING
    )
    if state is not None:
        one.load_state(state)
    for step in range(one.step_index, until):
        one.step(*(rows.to(ON) for rows in pairs(step)))
    return one


@pytest.mark.parametrize("changes", CELLS, ids=name_of)
def test_a_cell_has_the_same_bits_twice_and_resumed(changes):
    assert_repeated(trained, changes)


@pytest.mark.parametrize("changes", TRANSCODERS, ids=str)
def test_a_transcoder_has_the_same_bits_twice_and_resumed(changes):
    assert_repeated(transcoder, changes)


@pytest.mark.parametrize("changes", [{}, {"layers": "sparse 2", "optimizer": "muon"}, {"k_start": 2}], ids=str)
def test_a_cell_with_a_shortlist_has_the_same_bits_twice_and_resumed(monkeypatch, changes):
    for name, value in {"LEAST": 1, "WORK": 1, "FEWEST": 4}.items():  # else it is too small
        monkeypatch.setattr(shortlist, name, value)
    assert ON == "cpu" or shortlist.pays(batches(0).input.to(ON), latents=32, k=4)
    assert_repeated(trained, changes)


def assert_repeated(train, changes) -> None:
    whole, again = train(changes).state(), train(changes).state()
    half = {name: value.cpu().clone() for name, value in train(changes, STEPS // 2).state().items()}
    resumed = train(changes, state=half).state()
    for other in (again, resumed):
        assert [name for name in whole if not torch.equal(whole[name], other[name])] == []
