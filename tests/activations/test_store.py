"""Reading a store: any range of any shards is what the plain array has there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.activations.store import ActivationStore
from harness.activations.store_writer import StoreWriter, Unfit
from harness.errors import UserError
from harness.study.recipe import Recipe
from harness.training.data import Data


def written(folder: Path, rows: np.ndarray[Any, Any], shard: int = 4, dtype: str = "float32") -> ActivationStore:
    """A store with `rows` as its training split and the first of them held out."""
    folder.mkdir(exist_ok=True)
    writer = StoreWriter(folder, {"train": len(rows), "held_out": 1}, rows.shape[1], dtype, shard)
    writer.put("train", np.arange(len(rows)), rows)
    writer.put("held_out", np.arange(1), rows[:1])
    writer.finish(hook="h", model="m", model_fingerprint="f")
    return ActivationStore.open(folder)


def some_rows(count: int, width: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).normal(5, 2, (count, width)).astype(np.float32)


@given(st.data(), st.integers(1, 40), st.integers(1, 45), st.sampled_from(["float16", "float32"]))
def test_any_range_is_that_of_the_plain_array(data: st.DataObject, count: int, shard: int, dtype: str) -> None:
    start = data.draw(st.integers(0, count))
    stop = data.draw(st.integers(start, count))
    rows = some_rows(count)
    with tempfile.TemporaryDirectory() as folder:
        store = written(Path(folder), rows, shard, dtype)
        kept = rows.astype(dtype)
        read = store.read("train", start, stop)
        assert read.dtype == dtype
        assert np.array_equal(read, kept[start:stop])
        assert store.tokens("train") == count
        if count > 1:
            held_out = Data(Path(folder), torch.device("cpu")).held_out.x.numpy()
            assert np.array_equal(held_out, (kept[:1].astype(np.float32) - store.mean) / np.float32(store.scale))


def test_the_training_split_is_trained_on_centred_with_unit_variance(tmp_path: Path) -> None:
    written(tmp_path, some_rows(5_000, 8) * np.arange(1, 9), shard=700)
    data = Data(tmp_path, torch.device("cpu"))
    seen, wanted = data.centred(data.read(Recipe(latents=8, k=1, batch=5_000, tokens=5_000), 0))
    assert wanted is seen  # an SAE's target takes no memory
    whole = seen.numpy()
    assert whole.dtype == np.float32
    assert np.abs(whole.mean(0)).max() < 1e-5
    assert np.square(whole, dtype=np.float64).mean() == pytest.approx(1)


def test_moments(tmp_path: Path) -> None:
    manifest = written(tmp_path, np.array([[3, 4], [3, -4], [5, 12], [5, -12]], np.float32)).manifest
    assert manifest["mean"] == [4, 0]
    assert manifest["scale"] == pytest.approx(np.sqrt((1 + 80) / 2))
    assert (manifest["norm_mean"], manifest["norm_std"]) == pytest.approx((9, 4))
    assert manifest["outlier_severity"] == pytest.approx(4)


def test_places_decide_where_rows_go(tmp_path: Path) -> None:
    rows, places = some_rows(10), np.random.default_rng(0).permutation(10)
    store = written(tmp_path / "a", rows)
    (tmp_path / "b").mkdir()
    writer = StoreWriter(tmp_path / "b", {"train": 10, "held_out": 1}, 3, "float32", 4)
    writer.put("train", places[:6], rows[places[:6]])
    writer.put("train", places[6:], rows[places[6:]])
    writer.put("held_out", np.arange(1), rows[:1])
    assert writer.finish(hook="h")["fingerprint"] == store.fingerprint


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 11)])
def test_ranges_outside_are_refused(tmp_path: Path, start: int, stop: int) -> None:
    with pytest.raises(IndexError, match=r"train has tokens \[0, 10\), asked for"):
        written(tmp_path, some_rows(10)).read("train", start, stop)


def test_values_that_the_dtype_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match="float16 cannot hold the value 70000; expected float32") as caught:
        written(tmp_path, np.array([[1, 2], [3, 70_000]], np.float32), dtype="float16")
    assert caught.value.row == 1


def truncate(folder: Path) -> None:
    shard = folder / "train-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1])


def forget(folder: Path) -> None:
    (folder / "train-00001.npy").unlink()


def swap(folder: Path) -> None:
    np.save(folder / "train-00001.npy", np.zeros((4, 2), np.float32))


def pickled(folder: Path) -> None:
    np.save(folder / "train-00001.npy", np.array([{}]), allow_pickle=True)


def other_format(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))


def other_mean(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "mean": [0, 0, 0]}))


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def no_json(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"train-00001\.npy: expected a complete shard of activations: "),
        (forget, r"train-00001\.npy: expected a complete shard of activations: No such file"),
        (swap, r"train-00001\.npy: expected \(4, 3\) of float32, got \(4, 2\) of float32"),
        (pickled, r"train-00001\.npy: expected a complete shard of activations: "),
        (other_format, r"manifest\.json: format: expected 3, got 99; make the activations again"),
        (
            other_mean,
            r"manifest\.json: fingerprint: expected that of the other entries; make the activations again",
        ),
        (no_manifest, r"expected an activation store, found no manifest\.json"),
        (no_json, r"manifest\.json: expected an activation store: "),
    ],
)
def test_damaged_stores_are_refused(tmp_path: Path, damage: Any, message: str) -> None:
    written(tmp_path, some_rows(10))
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        ActivationStore.open(tmp_path)


def test_a_shard_that_is_not_as_it_was_written_is_found(tmp_path: Path) -> None:
    store = written(tmp_path, some_rows(10))
    store.verify()
    shard = tmp_path / "train-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-4] + b"flip")
    store = ActivationStore.open(tmp_path)
    store.verify(most=4 * 3 * 4)  # of the first shard alone
    with pytest.raises(UserError, match=r"train-00001\.npy: its content is not what was written; make the act"):
        store.verify()


def test_reading_needs_neither_torch_nor_transformers() -> None:
    heavy = {"torch", "transformers", "polars", "pydantic", "yaml"}
    code = f"import sys, harness.activations.store; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
