"""What a cell's tables of latents and answers come to: its figures (`harness.metrics.OF_LATENTS`).

Shape letters: S sampled latents, A answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.evaluation.measurements import LAYERS, Figures
from harness.interpretability.examples import ACTIVATING
from harness.interpretability.judging import Score

Numbers = NDArray[np.float64]

CHANCE: Mapping[Score, float] = {"detection": 0.5, "fuzzing": 0.5, "intruder": 0.2}  # one of five is the intruder
HARD = ("same_token", "similar", "neighbour")
# Means over the latents that have a value, where the tables have the column at all
MEANS = ("detection_permuted", "direction_cosine", "direction_share", "logit_kl", "shallow_cosine")


def figures_of(latents: pa.Table, answers: pa.Table) -> Figures:
    """The figures of one cell, from its tables (docs/interpretability.md). What is unknown is absent.

    A cell's figure is a mean over its sampled latents: these are what is sampled of it, and not the answers.
    """
    found = _scores(latents) | _strengths(answers) | _shares(latents)
    found |= {name: _mean(numbers(latents, name)) for name in MEANS if name in latents.column_names}
    if len(answers):
        found["invalid_answers"] = answers["answer"].null_count / len(answers)
    layers = numbers(latents, "layer").astype(int)
    by_layer = [_of_layer(latents, layers == layer) for layer in range(layers.max(initial=0) + 1)]
    return {**_known(found), LAYERS: by_layer}


def numbers(table: pa.Table, name: str) -> Numbers:
    """A column as numbers, NaN where it has none: [S] or [A]."""
    known: Numbers = table[name].cast(pa.float64()).to_numpy()
    return known


def _scores(latents: pa.Table) -> dict[str, float]:
    rates, lost = numbers(latents, "firing_rate"), _lost(latents)
    found: dict[str, float] = {}
    for score, chance in CHANCE.items():
        values = numbers(latents, score)
        found[score] = _mean(np.where(np.isnan(values), chance, values))
        found[f"{score}_alive"] = _mean(values)
    detection = numbers(latents, "detection")
    found["detection_failed"] = _mean(np.nan_to_num(detection))
    found["detection_weighted"] = _mean(detection, rates)
    for kind in (*HARD, "hard"):  # a latent may have no negatives of a kind: nothing is known of it then
        values = numbers(latents, f"detection_{kind}")
        found[f"detection_{kind}"] = _mean(np.where(lost, CHANCE["detection"], values))
    found["detection_hard_alive"] = _mean(numbers(latents, "detection_hard"))
    return found


def _lost(latents: pa.Table) -> NDArray[np.bool_]:
    """Latents that nobody can judge: dead ones, and those with too few windows. [S]"""
    return (numbers(latents, "dead") > 0) | (numbers(latents, "unscored") > 0)


def _strengths(answers: pa.Table) -> dict[str, float]:
    """Recall of the windows with the strongest and the weakest activations: means over latents."""
    columns = (answers[name].to_numpy(zero_copy_only=False) for name in ("score", "kind", "permuted", "right"))
    score, kind, permuted, right = columns
    asked = (score == "detection") & (kind == ACTIVATING) & ~permuted.astype(bool)
    latent, quantile = numbers(answers, "latent")[asked], numbers(answers, "quantile")[asked]
    if not len(latent):
        return {}
    ends = {"detection_strong": quantile.max(), "detection_weak": quantile.min()}
    return {
        name: _mean_by(latent[quantile == end], right[asked][quantile == end].astype(float))
        for name, end in ends.items()
    }


def _mean_by(groups: Numbers, values: Numbers) -> float:
    """The mean over groups of their means."""
    _, place = np.unique(groups, return_inverse=True)
    return float((np.bincount(place, values) / np.bincount(place)).mean())


def _shares(latents: pa.Table) -> dict[str, float]:
    return {
        f"latents_{name}": _mean(numbers(latents, name)) for name in ("dead", "dense", "token_only", "unscored")
    }


def _of_layer(latents: pa.Table, here: NDArray[np.bool_]) -> Figures:
    """What is also known of each sparse layer."""
    detection = numbers(latents, "detection")[here]
    detection = np.where(np.isnan(detection), CHANCE["detection"], detection)
    columns = {"latents_dead": "dead", "direction_cosine": "direction_cosine"}
    means = {
        name: _mean(numbers(latents, column)[here])
        for name, column in columns.items()
        if column in latents.column_names
    }
    return _known({"detection": _mean(detection), **means})


def _mean(values: Numbers, weights: Numbers | None = None) -> float:
    """Of the values that are known; NaN where none is, or none has a weight."""
    known = ~np.isnan(values)
    weights = known.astype(float) if weights is None else np.where(known, weights, 0)
    total = weights.sum()
    return float((np.where(known, values, 0) * weights).sum() / total) if total else math.nan


def _known(found: Mapping[str, float]) -> Figures:
    return {name: value for name, value in found.items() if not math.isnan(value)}
