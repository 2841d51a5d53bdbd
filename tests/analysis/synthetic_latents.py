"""Latents and scores with known effects, as the sweep exports them, added to a results folder.

`python tests/analysis/synthetic_latents.py FOLDER` writes the depth study with them, to look at figures.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tests.analysis.synthetic_results import write_depth

QUANTILES, DRAWS, WINDOWS = 5, 2, 20
HARD = ("same_token", "similar", "neighbour")
ABILITY = {"none": 0.46, "dense 2-2": 0.38, "dense 2-4-4-2": 0.34, "dense_encoder 2": 0.30, "sparse 3": 0.45}
DEAD = {"none": 0.01, "dense 2-2": 0.2, "dense 2-4-4-2": 0.31, "dense_encoder 2": 0.46, "sparse 3": 0.02}
SETTINGS = {"latents": 200, "draws": DRAWS, "windows": WINDOWS, "quantiles": QUANTILES, "judge": {"kind": "rules"}}
NULLS = {
    "neurons": ("raw neurons", 0.57),
    "principal_components": ("principal components", 0.60),
    "random_model": ("SAEs of a model with random weights", 0.66),
}


def add_latents(results: Path, latents: int = 60, **changes: float) -> Path:
    """Sampled latents for every complete cell of the folder, and their figures in cells.jsonl and study.json."""
    lines = (results / "cells.jsonl").read_text().splitlines()
    cells: list[dict[str, Any]] = [json.loads(line) for line in lines]
    frames = []
    for cell in cells:
        if cell["heldout"]:
            frames.append(cell_latents(cell, latents, changes))
            cell["heldout"] |= figures(*frames[-1])
    (results / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    for place, name in enumerate(("latents", "latent_scores")):
        pl.concat([pair[place] for pair in frames]).write_parquet(results / f"{name}.parquet")
    study = json.loads((results / "study.json").read_text())
    study |= {
        "interpretability": SETTINGS | {"latents": latents},
        "nulls": {n: _null(*one) for n, one in NULLS.items()},
    }
    (results / "study.json").write_text(json.dumps(study))
    return results


def _null(label: str, detection: float) -> dict[str, Any]:
    known = {"fvu": 0.5, "detection": detection, "detection_weighted": detection + 0.02}
    known |= {"detection_alive": detection, "detection_hard": 0.5 + (detection - 0.5) / 2}
    return {
        "label": label,
        "figures": known,
        "low": {name: value - 0.015 for name, value in known.items()},
        "high": {name: value + 0.015 for name, value in known.items()},
    }


def cell_latents(
    cell: dict[str, Any], count: int, changes: Mapping[str, float] = {}
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of one cell: ability differs between arms, seeds and latents, recall grows with activation."""
    number = np.random.default_rng(random.Random(f"{cell['cell']}").randrange(2**32))
    level = str(cell["arm"].get("layers", "none"))
    share = DEAD.get(level, 0.1) * (0.1 if cell["arm"].get("penalty") else 1)
    dead = np.arange(count) < round(changes.get("dead", share) * count)
    rate = np.where(dead, 0.0, np.minimum(0.4, 10 ** number.normal(-2.3, 0.7, count)))
    ability = (
        changes.get("ability", ABILITY.get(level, 0.4)) + number.normal(0, 0.012) + number.normal(0, 0.07, count)
    )
    ability = np.clip(ability, 0, 0.5) * (0.6 + 0.4 * np.minimum(1, rate / 0.01) ** 0.3)
    rows = []
    for latent in np.flatnonzero(~dead):
        for draw in range(DRAWS):
            strength = 0.5 + ability[latent] * np.linspace(0.6, 1.0, QUANTILES)
            each = WINDOWS // QUANTILES
            rows += [
                (int(latent), "detection", "activating", q, draw, number.binomial(each, p) / each, each)
                for q, p in enumerate(strength)
            ]
            chances = {
                "random": 0.5 + 0.95 * ability[latent],
                **dict.fromkeys(HARD, 0.5 + 0.5 * ability[latent]),
            }
            rows += [
                (int(latent), "detection", kind, None, draw, number.binomial(WINDOWS, p) / WINDOWS, WINDOWS)
                for kind, p in chances.items()
            ]
            rows += [
                (int(latent), "fuzzing", kind, None, draw, number.binomial(WINDOWS, p) / WINDOWS, WINDOWS)
                for kind, p in (
                    ("right_tokens", 0.5 + ability[latent]),
                    ("wrong_tokens", 0.55 + ability[latent] / 2),
                )
            ]
            rows.append(
                (int(latent), "intruder", "random", None, draw, number.binomial(5, 0.2 + ability[latent]) / 5, 5)
            )
    names = ("latent", "score", "kind", "quantile", "draw", "value", "answers")
    scores = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None).select(
        pl.lit(cell["cell"]).alias("cell"),
        pl.col("latent").cast(pl.Int32),
        "score",
        "kind",
        pl.col("quantile").cast(pl.Int8),
        pl.col("draw").cast(pl.Int8),
        pl.lit(0, pl.Int8).alias("repetition"),
        "value",
        pl.col("answers").cast(pl.Int32),
    )
    layers = 3 if level == "sparse 3" else 1
    known = pl.DataFrame({"latent": np.arange(count, dtype=np.int32)})
    for name, score, kinds in (
        ("detection", "detection", ("random",)),
        ("detection_hard", "detection", HARD),
        *((f"detection_{kind}", "detection", (kind,)) for kind in HARD),
        ("fuzzing", "fuzzing", ()),
        ("intruder", "intruder", ()),
    ):
        known = known.join(_balanced(scores, score, kinds).rename({"value": name}), on="latent", how="left")
    known = known.with_columns(
        pl.lit(cell["cell"]).alias("cell"),
        pl.Series("layer", np.arange(count) * layers // count, dtype=pl.Int8),
        pl.Series("firing_rate", rate),
        pl.Series("dead", dead),
        pl.Series("dense", rate > 0.1),
        pl.lit(False).alias("unscored"),
        pl.Series("found_again", np.where(dead, 0.0, rate.clip(0, 1))),
        ((pl.col("detection") >= 0.7) & (pl.col("detection_same_token") < 0.6))
        .fill_null(False)
        .alias("token_only"),
    )
    return known, scores


def _balanced(scores: pl.DataFrame, score: str, kinds: tuple[str, ...]) -> pl.DataFrame:
    """The plain way: the mean of the recall and of the share of right rejections, over draws."""
    own = scores.filter(pl.col("score") == score)
    if score == "intruder":
        return own.group_by("latent").agg(pl.col("value").mean())
    first = pl.col("kind").is_in(["activating", "right_tokens"])
    second = pl.col("kind").is_in([*kinds, "wrong_tokens"])
    value = pl.col("value")
    return own.group_by("latent").agg((value.filter(first).mean() + value.filter(second).mean()) / 2)


def figures(latents: pl.DataFrame, scores: pl.DataFrame) -> dict[str, float]:
    """What a cell's latents come to."""

    def mean(name: str, chance: float | None = None) -> float:
        column = latents[name] if chance is None else latents[name].fill_null(chance)
        return float(column.mean() or 0)

    alive = latents.filter(~pl.col("dead"))
    weighted = (alive["detection"] * alive["firing_rate"]).sum() / alive["firing_rate"].sum()
    shares = {f"latents_{name}": mean(name) for name in ("dead", "dense", "token_only", "unscored")}
    return {
        "detection": mean("detection", 0.5),
        "detection_failed": mean("detection", 0.0),
        "detection_alive": mean("detection"),
        "detection_weighted": float(weighted),
        "detection_hard": mean("detection_hard", 0.5),
        "detection_hard_alive": mean("detection_hard"),
        **{f"detection_{kind}": mean(f"detection_{kind}", 0.5) for kind in HARD},
        "detection_permuted": 0.51,
        "detection_strong": 0.95,
        "detection_weak": 0.75,
        "fuzzing": mean("fuzzing", 0.5),
        "fuzzing_alive": mean("fuzzing"),
        "intruder": mean("intruder", 0.2),
        "intruder_alive": mean("intruder"),
        "invalid_answers": 0.0,
        "direction_cosine": 0.8 + 0.2 * mean("detection"),
        "found_again": mean("detection") / 2,
        **shares,
    }


if __name__ == "__main__":
    print(add_latents(write_depth(Path(sys.argv[1])), 200))
