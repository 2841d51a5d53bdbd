"""Intervals over latents: as wide as the spread of latents says, whatever the number of answers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from harness.interpretability.answers import ANSWERS
from harness.interpretability.bootstrap import latent_intervals
from harness.interpretability.figures import figures_of
from harness.interpretability.tables import latents_table

LATENTS, DEAD, QUANTILES = 80, 10, 2


def tables(repetitions: int = 1) -> tuple[pa.Table, pa.Table]:
    """Latents of different ability, the first of them dead; each has one answer per quantile and repetition."""
    random = np.random.default_rng(0)
    ids = random.permutation(1000)[:LATENTS]
    dead = np.arange(LATENTS) < DEAD
    ability = np.where(dead, np.nan, random.uniform(0.5, 1, LATENTS))
    columns = {
        "latent": ids,
        "layer": np.zeros(LATENTS, int),
        "firing_rate": np.where(dead, 0, 0.01),
        "dead": dead,
        "dense": np.zeros(LATENTS, bool),
        "unscored": np.zeros(LATENTS, bool),
        "detection": ability,
        "token_only": np.zeros(LATENTS, bool),
    }
    right = {int(latent): random.random(QUANTILES) < 0.7 for latent in ids[~dead]}
    rows = [
        {"latent": latent, "repetition": again, "score": "detection", "kind": "activating", "quantile": quantile}
        | {"draw": 0, "answer": bool(yes), "right": bool(yes), "permuted": False}
        for again in range(repetitions)
        for latent, each in right.items()
        for quantile, yes in enumerate(each)
    ]
    noise = {"score": "fuzzing", "kind": "right_tokens", "quantile": None, "right": False, "permuted": False}
    rows += [{**row, **noise} for row in rows[:50]]
    return latents_table(columns, LATENTS), pa.Table.from_pylist(rows, schema=ANSWERS)


def expected(values: np.ndarray) -> tuple[float, float]:
    half = 1.96 * values.std() / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def test_they_are_as_wide_as_latents_differ() -> None:
    latents, answers = tables()
    low, high = latent_intervals(latents, answers)
    detection = np.nan_to_num(latents["detection"].to_numpy(), nan=0.5)
    strong = np.array([row["right"] for row in answers.to_pylist() if row["quantile"] == 1], float)
    for name, values in {"detection": detection, "detection_strong": strong}.items():
        wanted = expected(values)
        assert (low[name], high[name]) == pytest.approx(wanted, abs=0.15 * (wanted[1] - wanted[0]))
    figures = figures_of(latents, answers)
    assert all(low[name] <= figures[name] <= high[name] for name in low)
    assert [*low] == [*high] == [name for name in figures if name in low]  # never in the order of a set
    assert low["latents_dead"] > 0
    assert not {"layers", "invalid_answers"} & low.keys()


def test_more_answers_of_the_same_latents_make_no_narrower_ones() -> None:
    one, three = (latent_intervals(*tables(repetitions)) for repetitions in (1, 3))
    assert one == three
