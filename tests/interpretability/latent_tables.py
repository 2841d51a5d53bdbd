"""Tables of latents as the sweep writes them, made of random numbers: for the page, in any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

LENGTH = 32  # tokens of a window
VOCABULARY = ["", "\n", " def", " the", "</script>", "<img src=x onerror=alert(1)>", " é", "\u202e", "a&b", "    "]
VOCABULARY += [f" word{number}" for number in range(2000)]
NEGATIVES = ("random", "same_token", "similar", "neighbour")
SCORES = ("detection", "detection_same_token", "detection_similar", "detection_neighbour", "detection_hard")
SCORES += ("detection_permuted", "fuzzing", "intruder", "direction_cosine", "found_again")


def write_tokens(folder: Path) -> None:
    """The study's vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(
        {"token": range(len(VOCABULARY)), "text": VOCABULARY}, schema_overrides={"token": pl.Int32}
    )
    table.write_parquet(folder / "tokens.parquet")


def write_cell(folder: Path, latents: int, *, layers: int = 1, each: int = 5, seed: int = 0) -> pl.DataFrame:
    """The tables of one cell. each: windows of each quantile, of each kind of negatives. Returns its latents."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    table = _latents(latents, layers, random)
    table.write_parquet(folder / "latents.parquet")
    alive = table.filter(~pl.col("dead"))["latent"].to_numpy()
    once = _contexts(alive, each, random)
    again = once.filter(pl.col("window") % 3 == 0).with_columns(draw=pl.lit(1, pl.Int8))  # as other draws may
    (folder / "figures.json").write_text("{}")
    pl.concat([once, again]).sort("latent", maintain_order=True).write_parquet(folder / "contexts.parquet")
    return table


def _latents(count: int, layers: int, random: np.random.Generator) -> pl.DataFrame:
    dead = random.random(count) < 0.2
    unscored = ~dead & (random.random(count) < 0.1)
    rate = np.where(dead, 0, 10 ** random.uniform(-4, -0.7, count))
    silent = dead | unscored
    words = np.array(VOCABULARY)[random.integers(10, len(VOCABULARY), (count, 2))]
    columns: dict[str, Any] = {
        "latent": np.arange(count, dtype=np.int32),
        "layer": (np.arange(count) * layers // count).astype(np.int8),
        "firing_rate": rate,
        "dead": dead,
        "dense": rate > 0.1,
        "unscored": unscored,
        "explanation": [
            None if quiet else f"token ‘{one.strip()}’ after ‘{other.strip()}’ <b>"
            for quiet, (one, other) in zip(silent, words, strict=True)
        ],
        "neighbour": [None if d else int(n) for d, n in zip(dead, random.integers(0, count, count), strict=True)],
        "neighbour_jaccard": [None if d else 0.25 for d in dead],
        "max_activation": np.where(dead, 0.0, random.uniform(0.5, 9, count)),
        "token_only": ~silent & (random.random(count) < 0.3),
    }
    for score in SCORES:
        columns[score] = [
            None if quiet else value for quiet, value in zip(silent, random.uniform(0.3, 1, count), strict=True)
        ]
    columns["histogram"] = (random.integers(0, 50, (count, 20)) * ~dead[:, None]).tolist()
    for side in ("logits_up", "logits_down"):
        columns[side] = random.integers(0, len(VOCABULARY) + 5, (count, 8)).tolist()
    return pl.DataFrame(columns)


def _contexts(alive: NDArray[Any], each: int, random: np.random.Generator) -> pl.DataFrame:
    kinds = [("activating", quantile) for quantile in range(5)] + [(kind, None) for kind in NEGATIVES]
    shown = len(kinds) * each
    count = len(alive) * shown
    fires = np.tile(np.repeat([kind == "activating" for kind, _ in kinds], each), len(alive))
    peak = random.integers(0, LENGTH, count)
    values = np.where(random.random((count, LENGTH)) < 0.1, random.random((count, LENGTH)), 0) * fires[:, None]
    values[np.arange(count), peak] = fires * random.uniform(1, 5, count)
    tokens = random.zipf(1.3, (count, LENGTH)) % len(VOCABULARY)
    lengths = np.where(fires, LENGTH, random.integers(LENGTH // 2, LENGTH + 1, count))  # contexts may end
    there = np.arange(LENGTH) < lengths[:, None]
    ends = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
    whole = np.arange(count)
    return pl.DataFrame(
        {
            "latent": np.repeat(alive, shown).astype(np.int32),
            "draw": np.zeros(count, np.int8),
            "kind": [kind for kind, _ in kinds for _ in range(each)] * len(alive),
            "quantile": pl.Series([q for _, q in kinds for _ in range(each)] * len(alive), dtype=pl.Int8),
            "to_explain": whole % 2 == 0,
            "window": whole.astype(np.int32),
            "context": (whole // 2 % 500).astype(np.int32),
            "start": (whole % 2 * LENGTH).astype(np.int32),
            "peak": pl.Series(np.where(fires, peak, -1)).replace(-1, None).cast(pl.Int16),
            "tokens": _lists(ends, tokens[there].astype(np.int32)),
            "activations": _lists(ends, values[there].astype(np.float32)),
        }
    )


def _lists(ends: NDArray[np.int32], values: NDArray[Any]) -> pl.Series:
    return pl.Series(pa.ListArray.from_arrays(ends, values))
