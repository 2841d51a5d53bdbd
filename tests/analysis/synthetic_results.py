"""Results folders with known effects, as the sweep writes them, for tests and for looking at figures.

`python tests/analysis/synthetic_results.py FOLDER` writes one of realistic size, with `large` behind it one of 120
arms in 840 cells.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

ADAM, MUON = [0.001, 0.004, 0.016], [0.005, 0.02]
AXES: dict[str, list[Any]] = {
    "layers": ["none", "dense 2-2", "dense 2-4-4-2", "dense_encoder 2", "sparse 3"],
    "penalty": [0, 0.1],
    "optimizer": ["adam", "muon"],
    "lr": [0.001, 0.004, 0.005, 0.016, 0.02],
}
FVU = {"none": 0.100, "dense 2-2": 0.110, "dense 2-4-4-2": 0.118, "dense_encoder 2": 0.150, "sparse 3": 0.080}
DEAD = {"none": 0.004, "dense 2-2": 0.20, "dense 2-4-4-2": 0.31, "dense_encoder 2": 0.46, "sparse 3": 0.012}
ROBUST = ("nmse_median", "nmse_layer_norm", "fvu_trimmed", "fvu_dimensions")


def write(folder: Path, study: dict[str, Any], cells: list[dict[str, Any]], curves: list[dict[str, Any]]) -> Path:
    """Write the three files of a results folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study))
    (folder / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    (folder / "curves.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curves))
    return folder


def study_record(name: str, axes: dict[str, list[Any]], seeds: list[int], **changes: Any) -> dict[str, Any]:
    """`study.json` for these axes; the baseline is the first level of each, and `lr` is tuned."""
    tuned = [axis for axis in axes if axis == "lr"]
    record = {
        "name": name,
        "question": "Do added layers pay at equal width and k, once the learning rate is tuned?",
        "axes": axes,
        "tuned": tuned,
        "baseline": {axis: levels[0] for axis, levels in axes.items() if axis not in tuned},
        "seeds": seeds,
        "cells": 0,
        "heldout_tokens": 32768,
        "dead_window": 32768,
        "source": {"name": "docstrings", "hook": "transformer.h.2", "width": 128, "fingerprint": "9c41e07ab2d3"},
        "recipe": {"latents": 1024, "k": 16, "tokens": 1_048_576, "batch": 1024, "warmup": 0.05, "decay": 0.2},
        "environment": {"torch": "2.13.0", "device": "cpu", "threads": 1},
    }
    return record | changes


def _stack(layers: str, fvu: float | None, dead: float) -> list[dict[str, float]]:
    """Figures of each sparse layer: those of `sparse 3` leave over a half, a quarter and the FVU."""
    if fvu is None:
        return []
    left = [0.5, 0.25, fvu] if layers == "sparse 3" else [fvu]
    return [{"l0": 16 / len(left), "dead_fraction": dead, "unexplained": value} for value in left]


def cell_record(
    arm: dict[str, Any], seed: int, fvu: float | None, tuned: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """One line of `cells.jsonl`; `fvu` None is a cell without a result, in state `failed` unless changed.

    `features`: figures that only sources with known features have.
    """
    tuned = tuned or {}
    identity = json.dumps([arm, tuned, seed], sort_keys=True)
    dead, features = changes.pop("dead", 0.0), changes.pop("features", {})
    heldout = None
    if fvu is not None:
        heldout = {"mse": fvu * 0.9, "nmse": fvu * 1.1, "fvu": fvu, "l0": 16.0, "dead_fraction": dead}
        heldout |= dict.fromkeys(ROBUST, fvu * 1.2)
        heldout |= {
            "dead_fraction_all_tokens": dead,
            "alive": round(1024 * (1 - dead)),
            "effective_latents": 512 * (1 - dead),
            **features,
        }
    record = {
        "cell": hashlib.sha256(identity.encode()).hexdigest()[:12],
        "arm": arm,
        "tuned": tuned,
        "seed": seed,
        "state": "failed" if fvu is None else "complete",
        "reason": "out of memory" if fvu is None else None,
        "heldout": heldout,
        "layers": _stack(str(arm.get("layers", "none")), fvu, dead),
        "parameters": 263_296,
        "flops_per_token": 1_200_000,
        "tokens": 1_048_576,
    }
    return record | changes


def curve_records(cell: dict[str, Any], points: int = 16) -> Iterator[dict[str, Any]]:
    """A learning curve that ends at the cell's held-out figures; of 50 dead latents one revives at each point."""
    final, before = cell["heldout"], 0.0
    for i in range(1, points + 1):
        share = i / points
        fvu = final["fvu"] * (1 + 1.4 * (1 / share**0.7 - 1) / 6)
        dead = final["dead_fraction"] * (1 - math.exp(-4 * share)) / (1 - math.exp(-4))
        revived = before / 50
        yield {
            "cell": cell["cell"],
            "step": 64 * i,
            "tokens": 65536 * i,
            "train_mse": fvu * 0.9,
            "train_fvu": fvu * 0.98,
            "train_l0": 16.0,
            "train_dead_fraction": dead,
            "train_died_fraction": dead - before + revived,
            "train_revived_fraction": revived,
            "heldout_mse": fvu * 0.9,
            "heldout_nmse": fvu * 1.1,
            "heldout_fvu": fvu,
            "heldout_l0": 16.0,
        }
        before = dead


def depth_arms() -> Iterator[tuple[dict[str, Any], list[float]]]:
    """Arms of the depth study with their learning rates: Muon and the penalty only where they make sense."""
    for layers, penalty, optimizer in product(AXES["layers"], AXES["penalty"], AXES["optimizer"]):
        deep = layers.startswith("dense")
        muon = (layers, penalty) in [("none", 0), ("dense 2-2", 0.1), ("sparse 3", 0)]
        if (penalty == 0 or deep) and (optimizer == "adam" or muon):
            arm = {"layers": layers, "penalty": penalty, "optimizer": optimizer}
            yield arm, MUON if optimizer == "muon" else ADAM


def depth_cell(arm: dict[str, Any], lr: float, seed: int) -> dict[str, Any]:
    """One realistic cell: seeds shift all arms alike, learning rates bend the FVU, the penalty revives."""
    noise = random.Random(f"{arm}{lr}{seed}")
    penalised, muon = arm["penalty"] > 0, arm["optimizer"] == "muon"
    off = math.log(lr / (0.012 if muon else 0.0035))
    fvu = FVU[arm["layers"]] * (0.93 if penalised else 1) * (0.97 if muon else 1) * (1 + 0.09 * off**2)
    fvu *= 1 + [0.012, -0.009, 0.002, 0.006, -0.004][seed % 5] + noise.gauss(0, 0.006)
    dead = DEAD[arm["layers"]] * (0.02 if penalised else 1) * (1 + 0.15 * off) * (1 + noise.gauss(0, 0.12))
    return cell_record(arm, seed, fvu, {"lr": lr}, dead=max(0.0, min(0.9, dead)))


def write_depth(folder: Path, seeds: int = 3) -> Path:
    """The depth study at its real size, with one diverged cell and one arm's last seed missing."""
    numbers = list(range(seeds))
    cells = [depth_cell(arm, lr, seed) for arm, rates in depth_arms() for lr in rates for seed in numbers]
    for cell in cells:
        arm, seed = (cell["arm"]["layers"], cell["arm"]["penalty"]), cell["seed"]
        if (*arm, cell["tuned"]["lr"], seed) == ("dense 2-4-4-2", 0, 0.016, 1):
            cell |= {"state": "diverged", "reason": "loss is not finite at step 212", "heldout": None}
        if (*arm, seed) == ("dense_encoder 2", 0.1, 2):
            cell |= {"state": "missing", "reason": None, "heldout": None}
    curves = [point for cell in cells if cell["heldout"] for point in curve_records(cell)]
    return write(folder, study_record("depth", AXES, numbers, cells=len(cells)), cells, curves)


def write_grid(
    folder: Path,
    axes: dict[str, list[Any]],
    seeds: int,
    fvu: Callable[[dict[str, Any], int], float | None],
    tuned: tuple[str, ...] = (),
) -> Path:
    """A full factorial study; `fvu(levels, seed)` is a cell's result, None where it has none."""
    cells = []
    for levels in (dict(zip(axes, row, strict=True)) for row in product(*axes.values())):
        arm = {axis: level for axis, level in levels.items() if axis not in tuned}
        setting = {axis: levels[axis] for axis in tuned}
        cells += [cell_record(arm, seed, fvu(levels, seed), setting) for seed in range(seeds)]
    curves = [point for cell in cells if cell["heldout"] for point in curve_records(cell, points=4)]
    baseline = {axis: levels[0] for axis, levels in axes.items() if axis not in tuned}
    study = study_record(
        folder.name, axes, list(range(seeds)), tuned=list(tuned), baseline=baseline, cells=len(cells)
    )
    return write(folder, study, cells, curves)


LARGE: dict[str, list[Any]] = {
    "layers": ["none", "dense 2-2", "dense 2-4-4-2", "dense_encoder 2", "sparse 3"],
    "penalty": [0, 0.01, 0.03, 0.1, 0.3, 1.0],
    "optimizer": ["adam", "muon", "lion", "schedule_free_adam"],
}
RATES = [0.002, 0.004, 0.008, 0.016]


def large_cell(arm: dict[str, Any], lr: float, seed: int) -> dict[str, Any]:
    """Every level moves FVU and deaths a little, whatever the axes are."""
    noise = random.Random(f"{arm}{lr}{seed}")
    effects = [random.Random(f"{axis}{level}") for axis, level in arm.items()]
    fvu = 0.1 * math.exp(sum(effect.gauss(0, 0.15) for effect in effects))
    fvu *= (1 + 0.09 * math.log(lr / 0.006) ** 2) * (1 + noise.gauss(0, 0.01))
    dead = 0.1 * math.exp(sum(effect.gauss(0, 0.8) for effect in effects) + noise.gauss(0, 0.1))
    return cell_record(arm, seed, fvu, {"lr": lr}, dead=min(dead, 0.95))


def write_large(
    folder: Path, axes: dict[str, list[Any]] = LARGE, seeds: int = 3, points: int = 16, **study: Any
) -> Path:
    """A full factorial with a learning rate tuned on a seed of its own: `seeds` + 4 cells per arm."""
    cells = []
    for levels in product(*axes.values()):
        arm = dict(zip(axes, levels, strict=True))
        searched = [large_cell(arm, lr, 100) for lr in RATES]
        best = min(searched, key=lambda cell: float(cell["heldout"]["fvu"]))["tuned"]["lr"]
        cells += [*searched, *(large_cell(arm, best, seed) for seed in range(seeds))]
    curves = [point for cell in cells for point in curve_records(cell, points)]
    record = study_record(folder.name, {**axes, "lr": RATES}, list(range(seeds)), cells=len(cells))
    return write(folder, record | {"tuning_seeds": [100], **study}, cells, curves)


if __name__ == "__main__":
    writer = write_large if "large" in sys.argv else write_depth
    print(writer(Path(sys.argv[1])))
