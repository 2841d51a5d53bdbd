"""Records of simulated studies, as a sweep writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.coverage.design import LATENTS, ArmTruth, Floats, Scenario
from harness.analysis.results.files import POINT
from harness.analysis.results.records import CellRecord, StudyRecord
from harness.metrics import curve_columns

NO_CURVES = pl.DataFrame(schema=POINT | dict.fromkeys(curve_columns(), pl.Float64))
FILE = "studies/smoke.yaml"  # a study file that the results are said to be of


class Simulated:
    """One study of a scenario: the figures of all cells that it may train, and its records up to now."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self.scenario = scenario
        self.trained = [scenario.seeds] * len(scenario.arms)  # seeds of each arm, as far as looks went
        self.figures = [_figures(scenario, arm, rng) for arm in scenario.arms]

    def study(self, seeds: int) -> StudyRecord:
        return StudyRecord.model_validate(self._study(seeds))

    def cells(self, seeds: Sequence[int]) -> list[CellRecord]:
        """seeds: how many each arm has been trained at."""
        return [CellRecord.model_validate(cell) for cell in self._cells(seeds)]

    def write(self, results: Path, seeds: Sequence[int]) -> None:
        """The three files of a results folder."""
        results.mkdir(parents=True)
        cells = list(self._cells(seeds))
        (results / "study.json").write_text(json.dumps(self._study(max(seeds)) | {"file": FILE}))
        (results / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
        points = (point for cell in cells for point in _curve(cell))
        (results / "curves.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))

    def _study(self, seeds: int) -> dict[str, Any]:
        scenario, axes = self.scenario, self.scenario.axes
        tuned = {"lr": _rates(scenario)} if scenario.gaps else {}
        settings = scenario.settings * (seeds + scenario.tuning_seeds)
        return {
            "name": "simulated",
            "question": scenario.name,
            "axes": axes | tuned,
            "tuned": list(tuned),
            "baseline": {name: levels[0] for name, levels in axes.items()},
            "seeds": list(range(seeds)),
            "tuning_seeds": [seeds + i for i in range(scenario.tuning_seeds)],
            "cells": len(scenario.arms) * settings,
            "heldout_tokens": 32768,
            "dead_window": 32768,
            "source": {"name": "simulated", "width": 128},
            "recipe": {"latents": LATENTS, "k": 16, "tokens": 200_000, "batch": 1024},
            "environment": {"device": "cpu"},
            "indifference": dict(scenario.indifference),
            "looks": [look for look in scenario.looks if look <= seeds],
        }

    def _cells(self, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
        last = max(seeds)  # tuning seeds come after all others
        for number, (arm, (fvu, dead)) in enumerate(zip(self.scenario.arms, self.figures, strict=True)):
            for setting in range(self.scenario.settings):
                tuned = {"lr": _rates(self.scenario)[setting]} if self.scenario.gaps else {}
                own = range(min(seeds[number], arm.seeds or last))
                for seed in [*own, *range(last, last + self.scenario.tuning_seeds)]:
                    place = seed if seed < last else seed - last - self.scenario.tuning_seeds
                    figures = float(fvu[setting, place]), float(dead[setting, place])
                    yield _cell(f"{number}-{setting}-{seed}", arm.levels, tuned, seed, *figures)


def _figures(scenario: Scenario, arm: ArmTruth, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """FVU and dead share, each [settings, seeds], those of tuning seeds last."""
    scores, dead = scenario.draw(arm, 1, scenario.seeds + scenario.tuning_seeds, rng)
    return np.exp(scores[0]), dead[0]


def _rates(scenario: Scenario) -> list[float]:
    return [0.008 * 2**i for i in range(scenario.settings)]


def _cell(
    name: str, levels: dict[str, Any], tuned: dict[str, float], seed: int, fvu: float, dead: float
) -> dict[str, Any]:
    heldout = {"mse": fvu, "nmse": fvu, "fvu": fvu, "l0": 16.0, "dead_fraction": dead}
    return {
        "cell": name,
        "arm": levels,
        "tuned": tuned,
        "seed": seed,
        "state": "complete",
        "score": fvu,
        "heldout": heldout,
        "parameters": 263_296,
        "flops_per_token": 278_784.0,
        "tokens": 200_000,
    }


def _curve(cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    figures = {name: cell["heldout"][name] for name in ("fvu", "l0", "nmse", "mse")}
    for step, factor in ((50, 2.0), (200, 1.0)):
        point = {f"{place}_{name}": factor * figures[name] for place in ("heldout", "train") for name in figures}
        yield {"cell": cell["cell"], "step": step, "tokens": 1000 * step} | point
