"""Nulls beside scores: what is in their tables, and those that say nothing about a study."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.arms.statistics import mean_interval
from harness.analysis.interpretability.nulls import nulls_of
from harness.analysis.page.shown_tables import shown_table
from harness.analysis.results.files import read_table
from harness.analysis.sentences.warnings import warnings
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import cell_record, study_record, write

SETTINGS = {"latents": 200, "window": 32, "judge": {"kind": "rules"}}
NEURONS = {
    "label": "raw neurons",
    "latents": 200,
    "figures": {"fvu": 0.45, "detection": 0.55},
    "low": {"detection": 0.53},
    "high": {"detection": 0.58},
}
DETECTION = {"none": [0.70, 0.72, 0.77], "sparse 2": [0.60, 0.66, 0.69]}
PERMUTED, DEAD, UNSCORED = 0.52, 0.1, 0.05
SEEDS = [0, 1, 2]


def results(folder: Path, detection: Mapping[str, list[float]] = DETECTION, **changes: Any) -> Path:
    axes: dict[str, list[Any]] = {"layers": list(detection)}
    more = {"interpretability": SETTINGS, "nulls": {"neurons": NEURONS}}
    cells = [
        cell_record({"layers": level}, seed, 0.1 + 0.01 * seed, features=scores(detection[level][seed]))
        for level in detection
        for seed in SEEDS
    ]
    return write(folder, study_record(folder.name, axes, SEEDS, **(more | changes)), cells, [])


def scores(detection: float) -> dict[str, float]:
    lost = {"latents_dead": DEAD, "latents_unscored": UNSCORED}
    return {"detection": detection, "detection_alive": detection, "detection_permuted": PERMUTED, **lost}


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return read_table(folder, name).to_dicts()


def test_each_null_has_a_row_with_its_intervals(tmp_path: Path) -> None:
    folder = results(tmp_path / "mine")
    make_tables(folder)
    neurons, permuted = rows(folder, "nulls")
    assert (neurons["null"], neurons["over"]) == ("neurons", "latents")
    assert [neurons[name] for name in ("fvu", "detection", "detection_low", "detection_high")] == [
        0.45,
        0.55,
        0.53,
        0.58,
    ]
    # of the sample, dead and unscored latents at chance; the same at every seed here
    assert permuted["detection"] == pytest.approx(0.85 * PERMUTED + 0.15 * 0.5)
    assert permuted["detection_alive"] == pytest.approx(PERMUTED)
    assert permuted["fvu"] is None
    view = load_view(folder)
    shown = shown_table(view, "nulls")
    assert shown is not None
    assert [column.label for column in shown.columns][:2] == ["null", "FVU"]
    assert [cell.text for cell in shown.rows[0].cells][:3] == ["raw neurons", "0.4500", "55.0"]
    found = nulls_of(view)
    assert found.keys() == {"neurons", "permuted"}
    assert (found["neurons"].label, found["neurons"].high["detection"]) == ("raw neurons", 0.58)


def test_points_above_a_null_have_the_interval_of_a_difference(tmp_path: Path) -> None:
    folder = results(tmp_path / "mine")
    make_tables(folder)
    above = {(row["arm"], row["null"]): row for row in rows(folder, "above_nulls")}
    assert len(above) == 4
    arm = {row["arm"]: row for row in rows(folder, "arms")}["sparse 2"]
    row = above["sparse 2", "neurons"]
    assert row["detection_points"] == pytest.approx(100 * (0.65 - 0.55))
    assert row["detection_points_low"] == pytest.approx(
        10 - 100 * math.hypot(0.65 - arm["detection_low"], 0.58 - 0.55), abs=1e-9
    )
    assert row["detection_points_high"] == pytest.approx(
        10 + 100 * math.hypot(arm["detection_high"] - 0.65, 0.55 - 0.53), abs=1e-9
    )


def test_the_baseline_of_another_study_is_a_null(tmp_path: Path) -> None:
    asked = SETTINGS | {"nulls": ["random_model"]}
    results(tmp_path / "random_model", {"none": [0.61, 0.63, 0.62]}, nulls={})
    folder = results(tmp_path / "mine", interpretability=asked)
    make_tables(folder)
    row = rows(folder, "nulls")[-1]
    wanted = mean_interval([0.61, 0.63, 0.62])
    assert wanted is not None
    assert (row["null"], row["label"], row["over"]) == ("random_model", "random model", "seeds")
    assert [row[name] for name in ("detection", "detection_low", "detection_high")] == pytest.approx(
        [wanted.mean, wanted.low, wanted.high]
    )
    assert not [line for line in warnings(load_view(folder)) if "as a null" in line]


OTHERWISE = {
    "window: expected 32 as here, got 64": {"interpretability": SETTINGS | {"window": 64}},
    "k: expected 16 as here, got 8": {"recipe": {"latents": 1024, "k": 8}},
    "it has no `interpretability`": {"interpretability": None},
}


@pytest.mark.parametrize("why", [*OTHERWISE, "no study.json: run `harness run studies/random_model.yaml` first"])
def test_one_that_says_nothing_is_left_out_with_one_line(tmp_path: Path, why: str) -> None:
    if why in OTHERWISE:
        results(tmp_path / "random_model", {"none": [0.61, 0.63, 0.62]}, **OTHERWISE[why])
    folder = results(tmp_path / "mine", interpretability=SETTINGS | {"nulls": ["random_model"]})
    make_tables(folder)
    assert rows(folder, "nulls")[-1]["detection"] is None
    assert "random_model" not in {row["null"] for row in rows(folder, "above_nulls")}
    view = load_view(folder)
    lines = [line for line in warnings(view) if "as a null" in line]
    assert len(lines) == 1
    assert lines[0].startswith("The study names random_model as a null, which is left out: ")
    assert lines[0].endswith(f"{why}.")
    assert "random_model" not in nulls_of(view)


def test_a_study_without_interpretability_has_no_nulls(tmp_path: Path) -> None:
    folder = results(tmp_path / "mine")
    study = json.loads((folder / "study.json").read_text())
    del study["interpretability"], study["nulls"]
    (folder / "study.json").write_text(json.dumps(study))
    make_tables(folder)
    assert rows(folder, "nulls") == rows(folder, "above_nulls") == []
    assert not nulls_of(load_view(folder))
