"""Where the variance of latents' scores comes from: seeds, latents, the windows that were drawn, the judge."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from harness.analysis.arms.arm import Arm
from harness.analysis.interpretability.latents import CHANCE, HARD, SampledLatents, balanced
from harness.inference.bootstrap import Clusters
from harness.inference.nested import nested

COMPONENTS = ("seed", "latent", "draw", "repetition")
MEAN, MEAN_AT_SEEDS = "mean of an arm", "mean of an arm at these seeds"
# outcome -> its score and the kinds of negatives
OUTCOMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "detection": ("detection", ("random",)),
    "detection_hard": ("detection", HARD),
    "fuzzing": ("fuzzing", ()),
    "intruder": ("intruder", ()),
}
KEY = ("arm", "seed", "latent")


def latent_variance_rows(arms: Sequence[Arm], sampled: SampledLatents) -> list[dict[str, Any]]:
    """The interpretability_variance table: for each outcome a row for each component, then two for what they add
    up to.

    Values are those of one latent, draw of windows and repetition of the judge, dead and unscored latents at
    chance; arms are fixed, seeds within arms, latents within seeds, draws within latents, repetitions within
    draws (`harness.inference.nested`). `sd`: of a component, in points; `share`: of the sum of the variances;
    `replicates`: how many there are below one group of the level above; `error`: what it adds to the standard
    error of an arm's mean. A component without degrees of freedom has no row: with one repetition, the judge's is
    part of `draw`. The last rows are standard errors of an arm's mean, from the components and, as a check, by the
    bootstrap: over seeds, and at these seeds over latents.
    """
    own = sampled.of(arms)
    if own.scores.is_empty():
        return []
    return [row for outcome in OUTCOMES for row in _rows(outcome, own)]


def _rows(outcome: str, sampled: SampledLatents) -> Iterator[dict[str, Any]]:
    score, kinds = OUTCOMES[outcome]
    scored = balanced(sampled.scores, score, kinds, (*KEY, "draw", "repetition"))
    values = pl.concat([scored, _at_chance(outcome, scored, sampled.latents)]).sort(*KEY, "draw", "repetition")
    if values["seed"].n_unique() < 2 or values.is_empty():
        return
    points = 100 * values["value"].to_numpy()
    groups = _groups(values)
    found = nested(points, groups)
    counts = [len(np.unique(group)) for group in groups]
    per_arm = [count / counts[0] for count in counts[1:]]  # groups of each level of one arm
    total = math.fsum(component.variance for component in found)
    errors = [math.sqrt(component.variance / groups_) for component, groups_ in zip(found, per_arm, strict=True)]
    common = {"outcome": outcome, "unit": "points", "arms": counts[0], "seeds": per_arm[0]}
    for level, (name, component) in enumerate(zip(COMPONENTS, found, strict=True)):
        if component.df > 0:
            yield common | {
                "component": name,
                "df": component.df,
                "replicates": counts[level + 1] / counts[level],
                "sd": math.sqrt(component.variance),
                "share": component.variance / total if total else None,
                "error": errors[level],
                "bootstrap": None,
            }
    clusters = Clusters(*_means(values))
    for name, parts, check in (
        (MEAN, errors, clusters.over_clusters()),
        (MEAN_AT_SEEDS, errors[1:], clusters.over_members()),
    ):
        yield (
            common
            | {"component": name, "df": None, "replicates": None, "sd": None, "share": None}
            | {
                "error": math.sqrt(math.fsum(error**2 for error in parts)),
                "bootstrap": check,
            }
        )


def _at_chance(outcome: str, scored: pl.DataFrame, latents: pl.DataFrame) -> pl.DataFrame:
    """Latents that count as chance, in every draw and repetition: all without a score.

    But a latent that is judged and has no hard negatives is in neither.
    """
    without = latents.join(scored.select(*KEY).unique(), on=KEY, how="anti")
    if outcome == "detection_hard":
        without = without.filter(pl.col("dead") | pl.col("unscored"))
    asked = scored.select("draw", "repetition").unique()
    chance = pl.lit(CHANCE[OUTCOMES[outcome][0]]).alias("value")
    return without.select(*KEY).join(asked, how="cross").with_columns(chance).select(scored.columns)


def _groups(values: pl.DataFrame) -> list[NDArray[np.int64]]:
    """The group of each value at every level."""
    levels = ("arm", "seed", "latent", "draw", "repetition")
    return [
        values.select(pl.struct(levels[: depth + 1]).rank("dense").cast(pl.Int64)).to_series().to_numpy()
        for depth in range(len(levels))
    ]


def _means(values: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Of each latent its mean in points, its arm, and its cell."""
    latents = values.group_by(*KEY).agg(pl.col("value").mean() * 100).sort(*KEY)
    cells = latents.select(pl.struct("arm", "seed").rank("dense").cast(pl.Int64)).to_series()
    return latents["value"].to_numpy(), latents["arm"].to_numpy(), cells.to_numpy()
