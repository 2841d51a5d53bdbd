"""A step as a graph is that of one step after the other, wherever its numbers and its batches come from."""

import pytest
import torch

from harness.sae import gpu, native
from harness.training.centring import Centring
from harness.training.graph import FIRST, Graph
from harness.training.step_numbers import AHEAD, StepNumbers
from tests.training.cells import CENTRING, batches, cell
from tests.training.recorded import Recorded

CPU = torch.device("cpu")
STEPS = 12
CHANGES = [
    {},
    {"inputs": "layer_norm", "aux_k": 3, "dead_window": 64},
    {"k_start": 20, "tokens": STEPS * 32},
    {"resample": 96, "layers": "sparse 2", "inputs": "standardised"},
]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Cells on the CPU take the steps of a GPU without Triton, and what would be captured is recorded."""
    monkeypatch.setattr(gpu, "DEVICES", {"cpu"})
    monkeypatch.setattr(gpu, "kernels", lambda: None)
    monkeypatch.setattr(native, "library", lambda: None)
    made: list[Recorded] = []

    def captured(graph: Graph, work) -> Recorded:
        recorded = Recorded()
        with recorded:
            work(*graph._batch)
        made.append(recorded)
        return recorded

    monkeypatch.setattr(Graph, "_captured", captured)
    return made


def trained(changes, place=None, graph=True):
    """A cell after some steps. place: where all of its batches lie."""
    one = cell(**changes)
    one._graph = Recorder(one) if graph else None
    for step in range(STEPS):
        x = batches(step).input
        one.step(x if place is None else place.copy_(x))
    return one


class Recorder(Graph):
    """As a capture does not calculate, but recording does, the cell's counters are put back behind it."""

    def __init__(self, one) -> None:
        super().__init__(one.sae.parameters())
        self._changed = one.sums, one.last_fired, one._numbers.tokens

    def _captured(self, work):
        before = [value.clone() for value in self._changed]
        made = super()._captured(work)
        for value, old in zip(self._changed, before, strict=True):
            value.copy_(old)
        return made


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("place", [None, torch.empty(32, 8)], ids=["batches anywhere", "in one place"])
def test_a_graph_goes_on_with_the_bits_of_single_steps(as_on_a_gpu, changes, place):
    one = trained(changes, place)
    other = trained(changes, graph=False)
    assert as_on_a_gpu
    assert all(torch.equal(other.state()[name], value) for name, value in one.state().items())


def test_a_batch_that_always_lies_in_one_place_is_not_copied(as_on_a_gpu):
    place = torch.empty(32, 8)
    assert trained({}, place)._graph._batch[0] is place
    assert len(as_on_a_gpu) == 1
    one = trained({})
    assert one._graph._copies
    assert len(as_on_a_gpu) == 2


def test_a_batch_in_another_place_is_not_written_to_the_old_one(as_on_a_gpu):
    one, place = trained({}, place := torch.empty(32, 8)), place
    before = place.clone()
    one.step(batches(STEPS).input)
    one.step(batches(STEPS + 1).input)
    assert torch.equal(place, before)
    other = trained({}, graph=False)
    for step in (STEPS, STEPS + 1):
        other.step(batches(step).input)
    assert all(torch.equal(other.state()[name], value) for name, value in one.state().items())


@pytest.mark.parametrize("first", [0, 5])
def test_the_rates_of_each_step_are_there_when_its_work_takes_them(first):
    numbers, rates = StepNumbers(10, 2, CPU), torch.zeros(2)

    def work() -> None:
        numbers.count()
        numbers.take_rates(rates)

    def of(step: int) -> tuple[float, float]:
        return step / 3, -1.0 / (step + 1)

    seen, graph = [], None
    for step in range(first, first + 2 * AHEAD + 3):
        numbers.prepare(step, of)
        if step < first + FIRST:
            work()
        elif graph is None:
            with Recorded() as graph:
                work()
        else:
            graph.replay()
        seen.append((rates.tolist(), int(numbers.tokens)))
    expected = [torch.tensor(of(step)).tolist() for step in range(first, first + len(seen))]
    assert seen == [(rates, 10 * (first + at + 1)) for at, rates in enumerate(expected)]
    numbers.prepare(3, of)  # as after a checkpoint
    work()
    assert (rates.tolist(), int(numbers.tokens)) == (torch.tensor(of(3)).tolist(), 40)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rows_are_centred_in_place_to_the_same_bits(dtype):
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    centring = Centring(CENTRING.mean, torch.tensor(3.7))
    place = torch.empty(50, 8)
    assert centring.centre(rows, place) is place
    assert torch.equal(place, centring.centre(rows))
