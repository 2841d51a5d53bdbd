"""What a store's manifest says of activations that are too large or too small, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.activations.massive import warnings
from harness.activations.store import ActivationStore
from harness.activations.store_writer import StoreWriter, Unfit
from harness.cli import main
from tests.activations.test_store import written
from tests.conftest import WIDTH

Rows = np.ndarray[Any, Any]


def rows(tokens: int = 6400, width: int = 64) -> Rows:
    return np.random.default_rng(0).standard_normal((tokens, width)).astype(np.float32)


def one_dimension(rows: Rows) -> Rows:
    rows[:, 5] *= 1000
    return rows


def every_64th_token(rows: Rows) -> Rows:
    rows[::64] *= 30
    return rows


def test_one_dimension_at_1000_times_the_others(tmp_path: Path) -> None:
    manifest = written(tmp_path, one_dimension(rows())).manifest
    assert manifest["outlier_severity"] < 0.05  # as if nothing were the matter
    assert manifest["massive_dimensions"] == [5]
    assert manifest["massive_dimension_share"] == pytest.approx(1e6 / (1e6 + 63), rel=1e-3)
    (line,) = warnings(manifest)
    assert line.startswith("massive activations: 1 of the dimensions (5) has 99.99")
    assert "`inputs: standardised`" in line


def test_every_64th_token_at_30_times_the_others(tmp_path: Path) -> None:
    manifest = written(tmp_path, every_64th_token(rows())).manifest
    assert manifest["massive_token_fraction"] == 1 / 64
    assert manifest["massive_token_share"] == pytest.approx(0.934, abs=0.005)
    assert manifest["massive_dimensions"] == []
    (line,) = warnings(manifest)
    assert line.startswith("massive activations: 1.6 % of the tokens have 94 % of the variance")
    assert "skip_first" in line


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.4), st.sampled_from([1e-3, 1.0, 1e3]))
def test_ordinary_activations_are_not_warned_about(seed: int, spread: float, scale: float) -> None:
    """Dimensions and tokens whose sizes differ as they do in language models' middle layers."""
    random = np.random.default_rng(seed)
    sizes = np.exp(spread * random.standard_normal((2000, 1)) + spread * random.standard_normal((1, 48)))
    assert warnings(measured(scale * (sizes * random.standard_normal((2000, 48)) + 1), "float32")) == []


def measured(found: Rows, dtype: str) -> dict[str, Any]:
    from harness.activations.store_writer import moments

    stored = found.astype(dtype).astype(np.float64)
    return {"dtype": dtype, **moments(lambda: iter(np.split(stored, 2)), found.shape[1], dtype)}


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-5, 1e-6, 3e-7])
@pytest.mark.parametrize("mean", [0.0, 3000.0])
def test_what_rounding_costs_is_foretold(size: float, mean: float) -> None:
    """Held against what it costs, which is not known any more where only stored values are."""
    before = mean + size * rows(2000, 32).astype(np.float64)
    found = measured(before, "float16")
    lost = np.square(before.astype(np.float16).astype(np.float64) - before).mean() / before.var()
    if found["rounding_share"] < 0.1:
        assert found["rounding_share"] == pytest.approx(lost, rel=0.3)
    else:
        assert lost > 0.1


def test_values_too_small_for_float16(tmp_path: Path) -> None:
    manifest = written(tmp_path / "half", 1e-6 * rows(), dtype="float16").manifest
    assert manifest["subnormal_fraction"] > 0.9
    assert manifest["zero_fraction"] == pytest.approx(0.024, abs=0.01)
    (line,) = warnings(manifest)
    assert line.startswith("float16 is too coarse for these activations: rounding is about 0.0")
    assert line.endswith("as subnormal numbers); store them with `dtype: float32`")
    assert warnings(written(tmp_path / "single", 1e-6 * rows()).manifest) == []


def test_values_that_all_become_0_are_refused(tmp_path: Path) -> None:
    said = r"^float16 makes 0 of all values, of which the largest is -?[45]\.\d+e-09; expected float32$"
    with pytest.raises(Unfit, match=said):
        written(tmp_path, 1e-9 * rows(), dtype="float16")


def test_targets_of_transcoders_are_measured_too(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, {"train": 6400, "held_out": 1}, 64, "float32", target_width=64)
    for one, found in ((writer, rows()), (writer.targets, one_dimension(rows()))):
        assert one is not None
        one.put("train", np.arange(6400), found)
        one.put("held_out", np.arange(1), found[:1])
    (line,) = warnings(writer.finish(hook="in", target_hook="out", model="m", model_fingerprint="f"))
    assert line.startswith("massive targets: 1 of the dimensions (5)")


def test_plan_warns(small_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", str(small_study)])
    assert "warning" not in capsys.readouterr().out
    store = Path("data/random/activations")
    tokens = ActivationStore.open(store).manifest["tokens"]
    writer = StoreWriter(store, tokens, WIDTH, "float32", shard_tokens=3000)
    for split, count in tokens.items():
        writer.put(split, np.arange(count), every_64th_token(rows(count, WIDTH)))
    writer.finish(hook="transformer.h.0", model="none", model_fingerprint="none")
    main(["plan", str(small_study)])
    assert "warning: massive activations: 1.6 % of the tokens have 94 % of the variance" in capsys.readouterr().out
