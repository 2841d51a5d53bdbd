"""The report warns where its intervals cover less than they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.sentences import undercoverage
from harness.analysis.tables import make_tables
from harness.analysis.views.view import load_view
from tests.analysis.synthetic_results import cell_record, study_record, write


def said(folder: Path, values: list[list[float]], lr: tuple[float, ...] = (0.001,), **changes: Any) -> list[str]:
    """What is said of arms with these FVU by seed, at each learning rate alike."""
    axes = {"layers": [f"sparse {i + 2}" for i in range(len(values))], "lr": list(lr)}
    seeds = list(range(len(values[0])))
    cells = [
        cell_record({"layers": layers}, seed, fvu, {"lr": rate})
        for layers, row in zip(axes["layers"], values, strict=True)
        for rate in lr
        for seed, fvu in enumerate([*row, *row[: len(changes.get("tuning_seeds", []))]])
    ]
    write(folder, study_record("s", axes, seeds, cells=len(cells), **changes), cells, [])
    make_tables(folder)
    return list(undercoverage.warnings(load_view(folder)))


@pytest.mark.parametrize(("tuning", "warned"), [(1, True), (2, True), (3, False)])
def test_few_tuning_seeds(tuning: int, warned: bool, tmp_path: Path):
    tuning_seeds = list(range(3, 3 + tuning))
    lines = said(tmp_path, [[0.1, 0.11, 0.12], [0.2, 0.21, 0.22]], (0.001, 0.002), tuning_seeds=tuning_seeds)
    assert [line.startswith(f"Tuned values were chosen on {tuning} seed") for line in lines] == [True] * warned


def test_skewed_seeds(tmp_path: Path):
    rng = np.random.default_rng(0)
    even = [[float(0.1 * np.exp(0.01 * x)) for x in rng.standard_normal(6)] for _ in range(5)]
    skewed = [[float(0.1 * np.exp(0.01 * x)) for x in rng.chisquare(1, 6)] for _ in range(5)]
    assert said(tmp_path / "even", even) == []
    (line,) = said(tmp_path / "skewed", skewed)
    assert line.startswith("FVU of seeds is skewed within arms (skewness +")


def test_two_seeds(tmp_path: Path):
    (line,) = said(tmp_path, [[0.1, 0.11], [0.2, 0.21]])
    assert line.startswith("Only 2 seeds")


@pytest.mark.parametrize(("dispersion", "seeds", "warned"), [(1, 10, False), (4, 10, True), (4, 3, False)])
def test_dead_latents_that_vary_more_than_chance(dispersion: float, seeds: int, warned: bool, tmp_path: Path):
    rng, latents = np.random.default_rng(0), 1024
    axes = {"layers": [f"sparse {number + 2}" for number in range(4)]}
    cells = []
    for layers, share in zip(axes["layers"], (0.003, 0.01, 0.1, 0.3), strict=True):
        size = (latents - dispersion) / (dispersion - 1) if dispersion > 1 else None  # of the beta distribution
        for seed in range(seeds):
            p = rng.beta(share * size, (1 - share) * size) if size else share
            dead = rng.binomial(latents, p) / latents
            cells.append(
                cell_record({"layers": layers}, seed, float(0.1 + 0.001 * rng.standard_normal()), {}, dead=dead)
            )
    record = study_record("s", axes, list(range(seeds)), tuned=[], cells=len(cells))
    record["recipe"] = {**record["recipe"], "latents": latents}
    write(tmp_path / "s", record, cells, [])
    make_tables(tmp_path / "s")
    lines = undercoverage.warnings(load_view(tmp_path / "s"))
    assert [line.startswith("Dead latents differ between seeds") for line in lines] == [True] * warned
