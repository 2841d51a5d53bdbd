"""Small cells at once on a GPU: each on a CUDA stream of its own, between one batch and the next."""

from contextlib import contextmanager

import pytest
import torch

from harness.study.concurrency import MOST, cells_at_once
from harness.study.recipe import Recipe
from harness.training.cell import Cell
from harness.training.centring import Centring
from harness.training.cohort import Cohort
from harness.training.stream import Batch
from harness.training.streams import streams_of
from harness.training.trainer import Samples, Stopwatch, train
from tests.training.cells import BATCH, CENTRING, HELD_OUT, SAMPLES, STEPS, WIDTH, batches, cell, recipe

CHANGES = [{}, {"lr": 1e-2}, {"k_start": 20}, {"layers": "dense 2-2"}, {"tokens": 7 * BATCH}]


class Stream:
    """What a CUDA stream is told, in order, in a list that all of them share."""

    device = torch.device("cpu")
    said: list[tuple[str, str]]

    def __init__(self, name: str) -> None:
        self.name = name

    def wait_stream(self, other: "Stream") -> None:
        self.said.append((self.name, f"waits for {other.name}"))

    def synchronize(self) -> None:
        self.said.append((self.name, "is waited for"))


@pytest.fixture
def streams(monkeypatch):
    """Two of them, beside the main one."""
    main, current = Stream("main"), ["main"]
    Stream.said = []

    @contextmanager
    def stream(one: Stream):
        current.append(one.name)
        try:
            yield
        finally:
            current.pop()

    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    step = Cell.step

    def told(one: Cell, *batch: torch.Tensor) -> None:
        Stream.said.append((current[-1], f"step {one.step_index}"))
        step(one, *batch)

    monkeypatch.setattr(Cell, "step", told)
    return [Stream("first"), Stream("second")]


def run(count: int, streams, centred=lambda rows: rows, steps=STEPS) -> dict[str, Cell]:
    cells = {str(number): cell(**{"tokens": steps * BATCH, **CHANGES[number]}) for number in range(count)}
    training = {name: train(one, SAMPLES, None, lambda point: None, Stopwatch(), 1) for name, one in cells.items()}
    Cohort(training, streams=streams).train(batches, 1e9, centred=centred)
    return cells


def test_each_cell_has_a_stream_between_the_batches(streams):
    def centred(rows: Batch) -> Batch:
        Stream.said.append(("main", "batch"))
        return rows

    run(3, streams, centred, steps=2)
    fork = [("first", "waits for main"), ("second", "waits for main")]
    join = [("main", "waits for first"), ("main", "waits for second")]
    dealt = ("first", "second", "first")
    turns = [[("main", "batch"), *fork, *((name, f"step {n}") for name in dealt), *join] for n in (0, 1)]
    ends = [one for one in Stream.said if one[1] == "is waited for"]
    assert [one for one in Stream.said if one not in ends] == [*3 * [*fork, *join], *turns[0], *turns[1]]
    assert [name for name, _ in ends] == ["first", "second", "first"]


def test_streams_decide_no_bits(streams):
    together, one_by_one = run(len(CHANGES), streams), run(len(CHANGES), ())
    for name, one in together.items():
        theirs = one_by_one[name].state()
        assert all(torch.equal(theirs[key], value) for key, value in one.state().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("count", [1, 3])
def test_streams_of_a_gpu_decide_no_bits(count):
    device = torch.device("cuda", 0)
    samples = Samples(HELD_OUT, SAMPLES.training)

    def together(changes) -> list[dict[str, torch.Tensor]]:
        cells = [Cell(recipe(**one), WIDTH, device, Centring(*CENTRING)) for one in changes]
        training = {
            str(at): train(one, samples, None, lambda point: None, Stopwatch(), 1) for at, one in enumerate(cells)
        }
        on_it = lambda rows: Batch(*(x.to(device) for x in rows))  # noqa: E731
        Cohort(training, streams=streams_of(device, count)).train(batches, 1e9, centred=on_it)
        return [one.state() for one in cells]

    for ours, alone in zip(together(CHANGES), [together([one])[0] for one in CHANGES], strict=True):
        assert all(torch.equal(alone[key], value) for key, value in ours.items())


def sized(latents: int, batch: int) -> Recipe:
    return Recipe(latents=latents, k=1, batch=batch, tokens=batch)


def test_as_many_cells_step_at_once_as_fill_a_gpu():
    small, large = sized(4096, 4096), sized(24_576, 8192)
    assert cells_at_once([small] * 12) == MOST
    assert cells_at_once([small] * 2) == 2
    assert cells_at_once([large] * 12) == 1
    assert cells_at_once([sized(131_072, 4096)] * 12) == 1
    assert cells_at_once([sized(12_288, 8192)] * 12) == 2
    assert cells_at_once([*[small] * 11, large]) == 1
    assert cells_at_once([]) == 1


def test_without_a_gpu_there_are_no_streams():
    assert streams_of(torch.device("cpu"), 4) == ()
    assert streams_of(torch.device("cuda"), 1) == ()
