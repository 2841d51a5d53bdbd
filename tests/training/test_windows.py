"""Training windows: read from disk or made when they are needed, the batches are the same."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.activations.store import ActivationStore, fingerprint_of
from harness.activations.store_writer import StoreWriter
from harness.errors import UserError
from harness.study.recipe import Recipe
from harness.training.data import Data
from harness.training.stream import Order
from harness.training.windows import Windows
from tests.training.cells import rows_of

TOKENS, WINDOW, WIDTH, OUT = 1000, 128, 6, 3
RECIPE = Recipe(latents=8, k=1, batch=48, tokens=3 * TOKENS, dead_window=48)
CPU = torch.device("cpu")


def activations(split: str, number: int) -> list[np.ndarray]:
    """A window, and its targets: what a language model is in these tests."""
    tokens = min(WINDOW, TOKENS - number * WINDOW)
    random = np.random.default_rng([split == "train", number])
    return [random.standard_normal((tokens, width)).astype(np.float16) for width in (WIDTH, OUT)]


def stored(folder: Path, shard: int = WINDOW, targets: bool = True) -> Path:
    folder.mkdir()
    splits = {"train": TOKENS, "held_out": WINDOW}
    writer = StoreWriter(folder, splits, WIDTH, "float16", shard, target_width=OUT if targets else None)
    for split, tokens in splits.items():
        for number in range(-(-tokens // WINDOW)):
            for one, rows in zip((writer, writer.targets), activations(split, number), strict=True):
                if one is not None:
                    one.put(split, number * WINDOW + np.arange(len(rows)), rows.astype(np.float32))
    writer.finish(hook="in", target_hook="out" if targets else None, model="none", model_fingerprint="none")
    change(folder, lambda manifest: manifest.update(window=WINDOW))
    return folder


def change(folder: Path, edit: Callable[[dict], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    manifest["fingerprint"] = fingerprint_of(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def streamed(folder: Path) -> Path:
    """The same with the first training window on disk only."""

    def edit(manifest: dict) -> None:
        manifest |= {"feed": "stream", "stream": "the tests' model"}
        for about in (manifest, manifest["targets"]):
            for shard in about["shards"]["train"][1:]:
                (folder / shard["file"]).unlink()
            del about["shards"]["train"][1:]

    change(stored(folder), edit)
    return folder


def batch(data: Data, step: int, recipe: Recipe = RECIPE) -> list[list[float]]:
    return [rows.tolist() for rows in data.read(recipe, step)]


def test_a_stream_gives_the_batches_that_a_store_gives(tmp_path):
    opened = []

    def open_stream(path: Path, device: torch.device):
        opened.append(path)
        return lambda number: [torch.from_numpy(rows) for rows in activations("train", number)]

    whole = Data(stored(tmp_path / "stored"), CPU)
    stream = Data(streamed(tmp_path / "streamed"), CPU, open_stream)
    assert not opened
    for step in range(RECIPE.steps):
        assert batch(stream, step) == batch(whole, step)
    assert opened == [tmp_path / "streamed"]
    for step in (0, 50, 33, 12):  # whoever resumes, from whatever step
        assert batch(stream, step) == batch(whole, step)
    assert torch.equal(stream.held_out.x, whole.held_out.x)
    assert torch.equal(stream.training(10_000), whole.training(10_000))
    assert len(whole.training(10_000)) == WINDOW
    assert stream.fingerprint != whole.fingerprint


@pytest.mark.parametrize("shard", [100, WINDOW, 5 * WINDOW, 2 * TOKENS])
def test_shards_decide_nothing(tmp_path, shard):
    data = Data(stored(tmp_path / "it", shard, targets=False), CPU)
    order = Order(RECIPE.batch, RECIPE.seed, TOKENS, WINDOW)
    rows = np.concatenate([activations("train", number)[0] for number in range(8)])
    for step in (0, 2, 19, 20, 47):
        seen, wanted = data.read(RECIPE, step)
        assert wanted is seen
        assert torch.equal(seen, torch.from_numpy(rows)[rows_of(order, step)])


class OnDevice(Data):
    """As on a GPU, where windows and their orders lie: batches are gathered there."""

    def _put(self, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(rows))


@pytest.mark.parametrize("targets", [True, False])
def test_batches_that_are_gathered_on_a_device_are_those_of_a_cpu(tmp_path, targets):
    path = stored(tmp_path / "it", targets=targets)
    there, here = OnDevice(path, CPU), Data(path, CPU)
    there._copies = True  # type: ignore[assignment]
    place, places = None, set()
    for step in range(RECIPE.steps):
        rows, expected = there.read(RECIPE, step), here.read(RECIPE, step)
        assert (rows.target is rows.input) == (not targets)
        place = there.centred(rows, place)
        for ours, theirs in zip((*rows, *place), (*expected, *here.centred(expected)), strict=True):
            assert torch.equal(ours, theirs)
        places |= {rows.data_ptr() for rows in place}
    assert len(places) == 1 + targets


def test_a_stream_of_which_nothing_can_be_made_is_refused_where_it_ends(tmp_path):
    data = Data(streamed(tmp_path / "it"), CPU)
    assert data.read(RECIPE, 0).input.shape == (48, WIDTH)
    with pytest.raises(UserError, match="it: expected all activations on disk, found a stream"):
        data.read(RECIPE, 2)


def test_a_streamed_store_says_what_it_has(tmp_path):
    store = ActivationStore.open(streamed(tmp_path / "it"))
    assert (store.tokens("train"), store.tokens("held_out"), store.window) == (TOKENS, WINDOW, WINDOW)
    assert [store.has_window(number) for number in range(3)] == [True, False, False]
    with pytest.raises(IndexError, match=r"train has tokens \[0, 128\) on disk, asked for \[0, 129\)"):
        store.read("train", 0, 129)
    with pytest.raises(IndexError, match="on disk"):
        store.read_window(1)
    (tmp_path / "it" / "train-00000.npy").unlink()
    with pytest.raises(UserError, match="expected a complete shard"):
        ActivationStore.open(tmp_path / "it")


@pytest.mark.parametrize("said", [{"window": 64}, {"stream": "another model"}, {"feed": "stored"}])
def test_what_decides_the_windows_is_in_the_fingerprint(tmp_path, said):
    manifest = json.loads((streamed(tmp_path / "it") / "manifest.json").read_text())
    assert fingerprint_of({**manifest, **said}) != fingerprint_of(manifest)


def test_a_window_cannot_be_written_to(tmp_path):
    """It may be the file itself."""
    (rows,) = ActivationStore.open(stored(tmp_path / "it", targets=False)).read_window(2)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


class Made:
    """Windows that are made when a test says so, and how many there are at most."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.go_on = threading.Semaphore(10**6)

    def __call__(self, number: int) -> list[np.ndarray]:
        assert self.go_on.acquire(timeout=60)
        self.made.append(number)
        return activations("train", number)


@given(st.integers(1, 300), st.integers(0, 60))
def test_no_window_is_made_twice_nor_behind_the_last_step(size, first):
    """But where an epoch begins again, whose first window is gone."""
    recipe = replace(RECIPE, batch=size)
    order = Order(size, recipe.seed, TOKENS, WINDOW)
    make = Made()
    windows = Windows(make)
    needed: list[int] = []
    for step in range(first, recipe.steps):
        pieces = order.pieces(step)
        for piece in pieces:
            windows(piece.order.window)
            if [piece.order.window] != needed[-1:]:
                needed.append(piece.order.window)
        following, at = order.next_window(step)
        windows.keep(pieces[-1].order.window, *([following.window] if at < recipe.steps else []))
        assert len(windows._kept) <= 2
    windows._thread.shutdown()
    assert make.made == needed
