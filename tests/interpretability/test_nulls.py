"""Untrained SAEs against numpy: the default basis, and principal components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.activations.store import ActivationStore
from harness.activations.store_writer import StoreWriter
from harness.errors import UserError
from harness.evaluation.quality import measure
from harness.interpretability.nulls import null_saes
from harness.study.interpretability import NULLS, settings_of
from harness.study.recipe import Recipe
from harness.study.spec import load_study
from harness.training.data import Data
from tests.training.test_windows import change

WIDTH, TRAIN, HELD_OUT = 6, 3000, 500
K = 2


def store_of(folder: Path, x: Any, target: Any = None) -> Path:
    """A store of these rows, the first ones to train on."""
    folder.mkdir()
    counts = {"train": TRAIN, "held_out": HELD_OUT}
    width = None if target is None else target.shape[1]
    writer = StoreWriter(folder, counts, x.shape[1], "float32", target_width=width)
    for one, rows in ((writer, x), (writer.targets, target)):
        if rows is not None:
            one.put("train", np.arange(TRAIN), rows[:TRAIN])
            one.put("held_out", np.arange(HELD_OUT), rows[TRAIN:])
    writer.finish(hook="h", model="m", model_fingerprint="f", target_hook=None if target is None else "t")
    return folder


@pytest.fixture(scope="module")
def rows() -> Any:
    random = np.random.default_rng(0)
    mixed = random.standard_normal((TRAIN + HELD_OUT, WIDTH)) * [4, 3, 2, 1, 0.5, 0.2]
    rotation = np.linalg.qr(random.standard_normal((WIDTH, WIDTH)))[0]
    return (mixed @ rotation + random.standard_normal(WIDTH)).astype(np.float32)


def recipe(k: int = K) -> Recipe:
    return Recipe(latents=64, k=k, tokens=2048, batch=128, dead_window=300)


def held_out(store: Path) -> Any:
    opened = ActivationStore.open(store)
    return ((opened.read("held_out", 0, HELD_OUT) - opened.mean) / opened.scale).astype(float)


def best_of(basis: Any, x: Any, k: int) -> Any:
    """x from the k entries of each row that are largest by their size, in an orthonormal basis."""
    entries = x @ basis.T
    smaller = np.argsort(-np.abs(entries), axis=1)[:, k:]
    np.put_along_axis(entries, smaller, 0, axis=1)
    return entries @ basis


def fvu(x: Any, made: Any) -> float:
    return float(((x - made) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())


def test_they_are_the_best_k_of_a_basis(rows: Any, tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", rows)
    found = null_saes(store, recipe(), "cpu")
    assert found.keys() == NULLS.keys()
    x, data = held_out(store), Data(store, torch.device("cpu"))
    train = (rows[:TRAIN] - rows[:TRAIN].mean(0)).astype(float)
    bases = {"neurons": np.eye(WIDTH), "principal_components": np.linalg.svd(train, full_matrices=False)[2]}
    for name, null in found.items():
        figures = measure(null, data.held_out)
        assert figures["fvu"] == pytest.approx(fvu(x, best_of(bases[name], x, K)), rel=1e-5)
        assert figures["l0"] == K
        assert null.sae.latents == 2 * WIDTH
        assert null.config.recipe.dead_window == 300
    # components come in the order of their variance, each with the other sign WIDTH places on
    latents = found["principal_components"].encode(torch.from_numpy(rows[TRAIN:]))
    strength = (latents[:, :WIDTH] + latents[:, WIDTH:]).mean(0)
    assert strength.argmax() == 0
    assert not (latents[:, :WIDTH] * latents[:, WIDTH:]).any()


@pytest.mark.parametrize("k", [WIDTH, 40])
def test_with_all_entries_nothing_is_left_unexplained(rows: Any, tmp_path: Path, k: int) -> None:
    store = store_of(tmp_path / "store", rows)
    data = Data(store, torch.device("cpu"))
    for null in null_saes(store, recipe(k), "cpu").values():
        assert measure(null, data.held_out)["fvu"] < 1e-9


def test_those_of_a_transcoder_predict_its_target_by_least_squares(rows: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    target = (rows @ random.standard_normal((WIDTH, 4)) + 0.3 * random.standard_normal((len(rows), 4))) + 5
    store = store_of(tmp_path / "store", rows, target.astype(np.float32))
    x, y = (part[:TRAIN] - part[:TRAIN].mean(0) for part in (rows.astype(float), target))
    map_ = np.linalg.lstsq(x, y, rcond=None)[0]
    wanted = target[TRAIN:]
    linear = (rows[TRAIN:] - rows[:TRAIN].mean(0)) @ map_ + target[:TRAIN].mean(0)
    data = Data(store, torch.device("cpu"))
    for null in null_saes(store, recipe(WIDTH), "cpu").values():
        assert null.config.transcoder
        assert measure(null, data.held_out)["fvu"] == pytest.approx(fvu(wanted, linear), rel=1e-4)


def test_of_a_stream_they_are_those_of_what_is_on_disk(rows: Any, tmp_path: Path) -> None:
    stored, store = store_of(tmp_path / "stored", rows), store_of(tmp_path / "streamed", rows)
    ten = {"tokens": {"train": 10 * TRAIN, "held_out": HELD_OUT}, "window": TRAIN, "feed": "stream", "stream": "s"}
    change(store, lambda manifest: manifest.update(ten))
    one, other = (null_saes(folder, recipe(), "cpu") for folder in (stored, store))
    for name in one:
        assert torch.equal(one[name].sae.decoders()[0], other[name].sae.decoders()[0])


@pytest.mark.parametrize("name", ["small", "neurons", "permuted", "../other"])
def test_a_study_names_others_as_its_nulls(small_study: Path, name: str) -> None:
    text = small_study.read_text()
    small_study.write_text(f"{text}interpretability: {{nulls: [{name}]}}\n")
    with pytest.raises(UserError, match=rf"small\.yaml:{len(text.splitlines()) + 1}: interpretability\.nulls"):
        load_study(small_study)


def test_which_studies_are_nulls_decides_nothing_about_cells(small_study: Path) -> None:
    text, settings = small_study.read_text(), []
    for nulls in ("", "nulls: [other, another]"):
        small_study.write_text(f"{text}interpretability: {{{nulls}}}\n")
        asked = load_study(small_study).interpretability
        assert asked is not None
        settings.append(settings_of(asked))
    assert settings[0] == settings[1]
    assert asked.nulls == ["other", "another"]
