"""Synthetic sources: the features have the law that the file states, and the store keeps the truth."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from harness.activations.features import FeatureLaw
from harness.activations.store import ActivationStore
from harness.activations.synthetic import make_synthetic
from harness.errors import UserError
from harness.sources.kinds import load_source
from harness.sources.synthetic import Synthetic

SMALL: dict[str, Any] = {
    "kind": "synthetic",
    "width": 8,
    "features": 24,
    "tokens": 6_000,  # more than one block
    "held_out_tokens": 5_000,
    "active": 3,
    "dtype": "float32",
}


def source(folder: Path, **changes: Any) -> Synthetic:
    lines = [f"{key}: {value}\n" for key, value in {**SMALL, **changes}.items()]
    path = folder / "made_up.yaml"
    path.write_text("".join(lines))
    return cast(Synthetic, load_source(path))


def settings_of(**changes: Any) -> Synthetic:
    return Synthetic(**{"name": "made_up", "path": Path("made_up.yaml"), **SMALL, **changes})


def store(folder: Path, **changes: Any) -> ActivationStore:
    make_synthetic(source(folder, **changes), folder / "out")
    return ActivationStore.open(folder / "out")


def raw(made: ActivationStore, split: str) -> np.ndarray[Any, Any]:
    """Activations as they were written, neither centred nor scaled."""
    return np.concatenate([np.load(made.path / shard["file"]) for shard in made.manifest["shards"][split]])


def drawn(tokens: int = 40_000, **changes: Any) -> tuple[FeatureLaw, np.ndarray[Any, Any]]:
    """A law, and where its features fire on `tokens` tokens."""
    law = FeatureLaw(settings_of(**changes), np.random.default_rng(0))
    return law, law.draw(tokens, np.random.default_rng(1)) > 0


@settings(deadline=None, max_examples=25)
@given(
    share=st.floats(0.005, 0.999),
    features=st.integers(1, 30),
    zipf=st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0]),
    correlation=st.sampled_from([0.0, 0.4, 1.0]),
    hierarchy=st.sampled_from([0.0, 0.3, 0.99]),
    groups=st.integers(1, 40),
)
def test_features_fire_as_often_as_the_law_says(share: float, features: int, **law_of: Any) -> None:
    active = max(0.01, share * 0.5 * features * (1 - 0.5 * law_of["hierarchy"]))
    law, fires = drawn(features=features, active=active, **law_of)
    assert law.rates.sum() == pytest.approx(active)
    assert law.rates.max() <= 0.5
    error = np.sqrt(law.rates * (1 - law.rates) / len(fires))
    assert (np.abs(fires.mean(0) - law.rates) < 6 * error + 1e-4).all()


def test_rates_fall_with_the_rank_as_zipf_says() -> None:
    law, _ = drawn(tokens=1, features=100, active=2, zipf=1)
    assert law.rates[0] < 0.5
    assert law.rates == pytest.approx(law.rates[0] / np.arange(1, 101))
    assert drawn(tokens=1, zipf=0)[0].rates == pytest.approx(np.full(24, 3 / 24))


def test_what_clipping_takes_from_one_the_others_get() -> None:
    law, _ = drawn(tokens=1, features=100, active=10, zipf=1)
    clipped = law.rates == 0.5
    assert 0 < clipped.sum() < 100
    free = law.rates[~clipped] * np.arange(1, 101)[~clipped]
    assert free == pytest.approx(np.full(len(free), free[0]))
    assert law.rates.sum() == pytest.approx(10)


@given(zipf=st.sampled_from([0.0, 1.0]), correlation=st.sampled_from([0.0, 0.9]), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_a_child_never_fires_without_its_parent(zipf: float, correlation: float, seed: int) -> None:
    wanted = settings_of(hierarchy=0.5, zipf=zipf, correlation=correlation, groups=2)
    law = FeatureLaw(wanted, np.random.default_rng(seed))
    children = np.flatnonzero(law.parents != np.arange(24))
    parents = law.parents[children]
    assert len(children) == 12
    assert not set(children) & set(parents)
    assert (law.rates[children] <= 0.5 * law.rates[parents] + 1e-12).all()
    fires = law.draw(2_000, np.random.default_rng(seed)) > 0
    assert fires[:, children].any()
    assert not (fires[:, children] & ~fires[:, parents]).any()


def mean_correlations(law: FeatureLaw, fires: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Mean correlation of firing inside groups and between them."""
    together = np.corrcoef(fires.T.astype(float))
    same = law.groups[:, None] == law.groups
    other_feature = ~np.eye(len(together), dtype=bool)
    return float(together[same & other_feature].mean()), float(together[~same].mean())


def test_features_of_one_group_fire_together() -> None:
    inside, between = mean_correlations(*drawn(zipf=0.5, correlation=0.6, groups=4))
    assert inside > 0.2
    assert abs(between) < 0.01
    inside, between = mean_correlations(*drawn(zipf=0.5, correlation=0, groups=4))
    assert abs(inside) < 0.01
    assert abs(between) < 0.01


def test_values_are_about_one_where_features_fire() -> None:
    law = FeatureLaw(settings_of(), np.random.default_rng(0))
    values = law.draw(20_000, np.random.default_rng(1))
    values = values[values != 0]
    assert values.min() >= np.float16(0.1)
    assert (values.mean(), values.std()) == pytest.approx((1, 0.25), abs=0.01)


def test_without_noise_and_nonlinearity_activations_are_exactly_the_sum_of_features(tmp_path: Path) -> None:
    made = store(tmp_path, hierarchy=0.2, correlation=0.5, groups=3)
    directions = load_file(made.path / "features.safetensors")["directions"]
    features = made.features()
    assert features is not None
    assert features.shape == (5_000, 24)
    assert np.linalg.norm(directions, axis=1) == pytest.approx(np.ones(24))
    np.testing.assert_allclose(raw(made, "held_out"), features @ directions, atol=1e-5)


def rest(made: ActivationStore) -> tuple[float, float]:
    """rms of what is not the linear sum, and of what an affine fit of it by the sum leaves; sum's rms is 1."""
    features = made.features()
    assert features is not None
    total = features @ load_file(made.path / "features.safetensors")["directions"]
    other = raw(made, "held_out") - total
    with_one = np.concatenate([total, np.ones((len(total), 1))], axis=1)
    left = other - with_one @ np.linalg.lstsq(with_one, other, rcond=None)[0]
    size = np.sqrt(np.square(total - total.mean(0)).mean())
    return float(np.sqrt(np.square(other).mean()) / size), float(np.sqrt(np.square(left).mean()) / size)


def test_nonlinearity_is_of_the_size_asked_for_and_nothing_linear(tmp_path: Path) -> None:
    everything, not_affine = rest(store(tmp_path, nonlinearity=0.5))
    assert everything == pytest.approx(0.5, rel=0.05)
    assert not_affine == pytest.approx(0.5, rel=0.05)


def test_noise_is_of_the_size_asked_for(tmp_path: Path) -> None:
    assert rest(store(tmp_path, noise=0.3))[0] == pytest.approx(0.3, rel=0.05)


def test_the_same_file_makes_the_same_store_and_another_seed_another(tmp_path: Path) -> None:
    first = store(tmp_path, nonlinearity=1, noise=0.1)
    again, other = store(tmp_path, nonlinearity=1, noise=0.1), store(tmp_path, nonlinearity=1, noise=0.1, seed=1)
    assert again.manifest == first.manifest
    assert other.fingerprint != first.fingerprint
    assert other.manifest["synthetic"] != first.manifest["synthetic"]


@pytest.mark.parametrize("kernels", ["Nehalem", "Haswell"])
def test_other_kernels_for_products_make_the_same_store(tmp_path: Path, kernels: str) -> None:
    changes = {"dtype": "float16", "width": 32, "features": 400, "nonlinearity": 0.5, "noise": 0.1}
    wanted = source(tmp_path, **changes)
    here = make_synthetic(wanted, tmp_path / "here")
    code = (
        "import sys; from pathlib import Path; from harness.sources.kinds import load_source; "
        "from harness.activations.synthetic import make_synthetic; "
        "make_synthetic(load_source(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    environment = os.environ | {"OPENBLAS_CORETYPE": kernels, "OPENBLAS_NUM_THREADS": "1"}
    there = [sys.executable, "-c", code, str(wanted.path), str(tmp_path / "there")]
    assert subprocess.run(there, env=environment).returncode == 0
    assert ActivationStore.open(tmp_path / "there").fingerprint == here["fingerprint"]


def test_the_splits_are_other_draws_of_the_same_features(tmp_path: Path) -> None:
    made = store(tmp_path, features=4, active=1)  # fewer features than dimensions: both splits span their plane
    train, held_out = raw(made, "train"), raw(made, "held_out")
    assert (len(train), len(held_out)) == (6_000, 5_000)
    assert not np.array_equal(train[:5_000], held_out)
    assert np.linalg.matrix_rank(np.concatenate([train, held_out]), tol=1e-2) == 4


def test_blocks_differ(tmp_path: Path) -> None:
    train = raw(store(tmp_path, tokens=8_192), "train")
    assert not np.array_equal(train[:4_096], train[4_096:])


def test_the_fingerprint_depends_on_the_true_features(tmp_path: Path) -> None:
    from harness.activations.store_writer import StoreWriter

    def made(name: str, truth: float | None) -> str:
        (tmp_path / name).mkdir()
        writer = StoreWriter(tmp_path / name, {"train": 2, "held_out": 1}, 1, "float32")
        writer.put("train", np.arange(2), np.zeros((2, 1), np.float32))
        writer.put("held_out", np.arange(1), np.zeros((1, 1), np.float32))
        if truth is not None:
            writer.write_features(np.full((1, 1), truth, np.float16), np.ones((1, 1), np.float32))
        return str(writer.finish(hook="h")["fingerprint"])

    assert len({made("none", None), made("one", 1), made("two", 2)}) == 3


def test_a_store_without_known_features_has_none(tmp_path: Path) -> None:
    from .test_store import some_rows, written

    assert written(tmp_path / "store", some_rows(4)).features() is None


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def other_shape(file: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"features": np.zeros((2, 24), np.float16)}, file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, r"features\.safetensors: expected complete true features: No such file"),
        (truncate, r"features\.safetensors: expected complete true features: "),
        (other_shape, r"expected complete true features: \[5000, 24\] of them, got \[2, 24\]"),
    ],
)
def test_damaged_features_are_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    made = store(tmp_path)
    damage(made.path / "features.safetensors")
    with pytest.raises(UserError, match=message):
        ActivationStore.open(made.path)


def test_values_beyond_float16_leave_the_old_store(tmp_path: Path) -> None:
    before = store(tmp_path).fingerprint
    with pytest.raises(
        UserError,
        match=r": dtype: token \d+ of train: float16 cannot hold the value [\d.e+-]+; expected float32",
    ):
        make_synthetic(source(tmp_path, noise=1e6, dtype="float16"), tmp_path / "out")
    assert ActivationStore.open(tmp_path / "out").fingerprint == before


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
@settings(deadline=None, max_examples=8)
def test_the_smallest_sources_can_be_made(width: int, features: int, tokens: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"width": width, "features": features, "tokens": tokens, "held_out_tokens": tokens}
        made = store(Path(folder), **sizes, active=0.01, hierarchy=0.5, nonlinearity=1, noise=1)
        assert np.isfinite(made.read("train", 0, tokens)).all()


def test_making_them_needs_no_torch() -> None:
    code = "import sys, harness.activations.synthetic; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
