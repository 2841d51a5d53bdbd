"""The senses table: known curves and sizes, verdicts that flip, and a reason wherever nothing can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.comparability.budgets import between
from harness.analysis.comparability.sentences import sentences
from harness.analysis.results.files import read_table
from harness.analysis.sentences.warnings import warnings
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import cell_record, study_record, write

TOKENS = [1000, 2000, 4000, 8000, 12_000, 16_000, 20_000]  # the learning rate falls from 16,000 on (decay 0.2)
NOISE = (-0.001, 0.0, 0.001)
LAYERS: dict[str, list[Any]] = {"layers": ["none", "dense 2-2"]}


def curve(
    cell: dict[str, Any], level: float, tokens: list[int] = TOKENS, fall: float = 0.8
) -> list[dict[str, Any]]:
    """FVU = level · tokens^-0.5, and once more `fall` of it at the end; silent latents rise to 10 %."""
    return [
        {
            "cell": cell["cell"],
            "step": at,
            "tokens": at,
            "train_dead_fraction": 0.1 * at / tokens[-1],
            "heldout_fvu": level * at**-0.5 * (fall if at == tokens[-1] else 1.0),
            "heldout_l0": 16.0,
        }
        for at in tokens
    ]


def tabulate(
    folder: Path, arms: list[dict[str, Any]], axes: dict[str, list[Any]] = LAYERS, **study: Any
) -> list[dict[str, Any]]:
    """The senses table of arms: `arm`, `level` of the curve, and what their cells have."""
    cells, curves = [], []
    for arm in arms:
        more = {key: value for key, value in arm.items() if key not in ("arm", "level", "tokens_at")}
        at = arm.get("tokens_at", TOKENS)
        for seed, noise in enumerate(NOISE):
            level = arm["level"] * (1 + noise)
            cell = cell_record(arm["arm"], seed, 0.8 * level * at[-1] ** -0.5, **{"tokens": at[-1]} | more)
            cells.append(cell)
            curves += curve(cell, level, at)
    write(folder, study_record("s", axes, [0, 1, 2], cells=len(cells), dead_window=1, **study), cells, curves)
    make_tables(folder)
    return read_table(folder, "senses").to_dicts()


def one(rows: list[dict[str, Any]], sense: str, at: str = "") -> dict[str, Any]:
    (row,) = [row for row in rows if row["sense"] == sense and row["at"].startswith(at)]
    return row


NONE = {"arm": {"layers": "none"}, "level": 10.0, "flops_per_token": 1000}
DENSE = {"arm": {"layers": "dense 2-2"}, "level": 9.0, "flops_per_token": 4000, "parameters": 600_000}


def test_a_verdict_flips_where_flops_are_equal(tmp_path: Path):
    rows = tabulate(tmp_path / "s", [NONE, DENSE])
    end, before = one(rows, "tokens", "end"), one(rows, "tokens", "before")
    for row in (end, before):
        assert row["fvu_percent"] == pytest.approx(-10, abs=0.2)
        assert row["fvu_verdict"] == "lower"
    assert (before["budget"], before["unit"], before["fvu_against_tokens"]) == (16_000, "tokens", "holds")
    flops = one(rows, "training FLOPs")
    assert (flops["budget"], flops["arm_tokens"], flops["reference_tokens"]) == (16_000_000, 4000, 16_000)
    # a quarter of the tokens: twice the FVU, times 0.9
    assert flops["fvu_percent"] == pytest.approx(80, abs=0.2)
    assert (flops["fvu_verdict"], flops["fvu_against_tokens"], flops["at"]) == (
        "higher",
        "flips",
        "before the decay",
    )
    assert flops["dead_points"] is None  # held-out death is known at the end alone
    assert flops["silent_points"] == pytest.approx(2 - 8)
    time = one(rows, "time")
    assert time["reason"] == ""
    assert time["arm_tokens"] < time["reference_tokens"] == 16_000
    view = load_view(tmp_path / "s")
    (told,) = [sentence for sentence in sentences(view) if sentence.table == "senses"]
    assert "at equal training FLOPs (before the decay) FVU +80" in told.text
    assert "higher: the verdict flips" in told.text
    assert told.row is not None
    assert view.tables["senses"][told.row - 1]["fvu_against_tokens"] == "flips"
    assert any(
        line.startswith("A verdict on FVU flips where something else than tokens is equal:")
        for line in warnings(view)
    )


def test_fvu_between_two_points_follows_a_power_of_tokens(tmp_path: Path):
    flops = one(tabulate(tmp_path / "s", [NONE, DENSE | {"flops_per_token": 5333}]), "training FLOPs")
    tokens = 16_000_000 / 5333
    assert flops["arm_tokens"] == pytest.approx(tokens)  # 3,000: between two points
    assert flops["fvu_level"] == pytest.approx(9.0 * tokens**-0.5, rel=1e-6)


def test_costs_within_a_percent_are_compared_at_the_end(tmp_path: Path):
    rows = tabulate(tmp_path / "s", [NONE, DENSE | {"flops_per_token": 1009, "parameters": 263_500}])
    for sense, at in (("training FLOPs", "end of training"), ("parameters", "as many")):
        row = one(rows, sense)
        assert (row["at"], row["fvu_against_tokens"]) == (at, "holds")


def test_where_a_curve_is_too_short_the_row_says_so(tmp_path: Path):
    short = one(tabulate(tmp_path / "a", [NONE, DENSE | {"flops_per_token": 17_000}]), "training FLOPs")
    assert (short["reason"], short["fvu_percent"]) == (
        "dense 2-2: 941 tokens, while its learning rate still rises",
        None,
    )
    late = DENSE | {"flops_per_token": 15_000, "tokens_at": TOKENS[2:]}
    begins = one(tabulate(tmp_path / "c", [NONE, late]), "training FLOPs")
    assert begins["reason"] == "dense 2-2: 1,067 tokens, and its curve begins at 4,000"


def test_no_arm_with_as_many_parameters_is_a_reason(tmp_path: Path):
    row = one(tabulate(tmp_path / "s", [NONE, DENSE]), "parameters")
    assert row["reason"] == (
        "600,000 against 263,296, and no arm that differs from one of them in one more axis has as many"
    )
    assert (row["fvu_verdict"], row["fvu_against_tokens"]) == (None, None)


def test_parameters_are_matched_between_two_sizes(tmp_path: Path):
    axes = {"layers": ["none", "dense 2-2"], "latents": [1024, 4096]}
    sizes = {1024: (100_000, 10.0), 4096: (900_000, 5.0)}
    arms = [
        {
            "arm": {"layers": "none", "latents": n},
            "level": level,
            "parameters": parameters,
            "flops_per_token": 1000,
        }
        for n, (parameters, level) in sizes.items()
    ]
    dense = {"layers": "dense 2-2", "latents": 1024}
    arms.append({"arm": dense, "level": 9.0, "parameters": 300_000, "flops_per_token": 4000})
    (row,) = [
        row
        for row in tabulate(tmp_path / "s", arms, axes)
        if row["sense"] == "parameters" and row["axis"] == "layers"
    ]
    assert row["budget"] == 300_000
    assert row["at"] == "between none, latents 1024 and none, latents 4096"
    # 300,000 is half-way from 100,000 to 900,000 in logarithms: FVU the geometric mean of both
    assert row["fvu_percent"] == pytest.approx(100 * (9.0 / 50**0.5 - 1), abs=0.2)
    assert row["fvu_against_tokens"] == "flips"


def alive(folder: Path, dense_dead: tuple[float, float]) -> dict[str, Any]:
    """Two arms at two rates each; `none` has 100 and 300 of 1,024 dead latents and stands at the first."""
    rows = {"none": ((0.10, 100 / 1024), (0.12, 300 / 1024))}
    rows["dense 2-2"] = ((0.09, dense_dead[0]), (0.16, dense_dead[1]))
    cells = [
        cell_record({"layers": layers}, seed, fvu * (1 + noise), {"lr": lr}, dead=dead)
        for layers, settings in rows.items()
        for lr, (fvu, dead) in zip((0.008, 0.016), settings, strict=True)
        for seed, noise in enumerate(NOISE)
    ]
    study = study_record("s", LAYERS | {"lr": [0.008, 0.016]}, [0, 1, 2], cells=len(cells))
    write(folder, study, cells, [])
    make_tables(folder)
    return one(read_table(folder, "senses").to_dicts(), "alive latents")


def test_alive_latents_are_matched_between_tuned_settings(tmp_path: Path):
    # dense 2-2 has 200 dead at its best and 0 at the other rate: 100 dead are half-way, FVU 0.12
    row = alive(tmp_path / "a", (200 / 1024, 0.0))
    assert (row["budget"], row["unit"]) == (924, "latents")
    assert row["at"] == "dense 2-2 between its tuned settings"
    assert row["fvu_percent"] == pytest.approx(100 * ((0.09 * 0.16) ** 0.5 / 0.10 - 1), abs=0.2)
    assert row["fvu_against_tokens"] == "flips"
    apart = alive(tmp_path / "b", (600 / 1024, 700 / 1024))
    assert apart["reason"] == "no tuned settings with as many: 324 to 424 alive latents against 724 to 924"


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-5, 5)), min_size=1, max_size=6), st.floats(-10, 110))
def test_a_value_between_points_stays_between_its_neighbours(points: list[tuple[float, float]], x: float):
    points = sorted(points)
    value = between(points, x)
    if value is None:
        assert not points[0][0] <= x <= points[-1][0]
    else:
        assert min(y for _, y in points) <= value <= max(y for _, y in points)
