"""The sampled latents of all cells and how they scored, as the sweep wrote them, by arm and seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from harness.analysis.arms.arm import Arm
from harness.errors import UserError

CHANCE = {"detection": 0.5, "fuzzing": 0.5, "intruder": 0.2}
HARD = ("same_token", "similar", "neighbour")  # kinds of negatives
ACTIVATING = "activating"

LATENTS = {
    "cell": pl.String,
    "latent": pl.Int32,
    "layer": pl.Int8,
    "firing_rate": pl.Float64,
    "dead": pl.Boolean,
    "dense": pl.Boolean,
    "unscored": pl.Boolean,
    "token_only": pl.Boolean,
    "detection": pl.Float64,
    "detection_hard": pl.Float64,
    "found_again": pl.Float64,
}
SCORES = {
    "cell": pl.String,
    "latent": pl.Int32,
    "score": pl.String,
    "kind": pl.String,
    "quantile": pl.Int8,
    "draw": pl.Int8,
    "repetition": pl.Int8,
    "value": pl.Float64,
    "answers": pl.Int32,
}


@dataclass(frozen=True)
class SampledLatents:
    """`latents`: a row for each sampled latent of each cell. `scores`: how its judge did, by what it was asked.

    A row of `scores` is of one latent, score, kind of windows, quantile of activation (of activating ones), draw
    and repetition: `value` is the share of the answers that are right, `answers` their number.
    """

    latents: pl.DataFrame
    scores: pl.DataFrame

    def of(self, arms: Sequence[Arm]) -> SampledLatents:
        """Those of the cells that arms are reported with, with the columns `arm`, the arm's place, and `seed`."""
        cells = [
            {"cell": cell.cell, "arm": place, "seed": seed}
            for place, arm in enumerate(arms)
            for seed, cell in arm.finished().items()
        ]
        schema = {"cell": pl.String, "arm": pl.Int64, "seed": pl.Int64}
        reported = pl.DataFrame(cells, schema=schema)
        return SampledLatents(*(one.join(reported, on="cell") for one in (self.latents, self.scores)))


def none_sampled() -> SampledLatents:
    """Of a study that does not ask for interpretability."""
    return SampledLatents(pl.DataFrame(schema=LATENTS), pl.DataFrame(schema=SCORES))


def read_latents(results: Path) -> SampledLatents:
    """Read `latents.parquet` and `latent_scores.parquet`; empty where the study has none.

    Raises UserError where one is there without the other, or is not such a file.
    """
    paths = results / "latents.parquet", results / "latent_scores.parquet"
    there = [path for path in paths if path.is_file()]
    if not there:
        return none_sampled()
    if len(there) == 1:
        missing = next(path for path in paths if path not in there)
        raise UserError(f"{results}: no {missing.name} beside {there[0].name}: run `harness run` again")
    latents, scores = (_read(path, schema) for path, schema in zip(paths, (LATENTS, SCORES), strict=True))
    return SampledLatents(latents, scores)


def _read(path: Path, schema: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    try:
        found = pl.read_parquet(path)
    except (PolarsError, OSError) as error:
        raise UserError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error
    if found.is_empty():
        return pl.DataFrame(schema=schema)  # of a study that does not ask for interpretability
    if lacking := [name for name in schema if name not in found.columns]:
        raise UserError(f"{path}: expected the columns {', '.join(schema)}; missing: {', '.join(lacking)}")
    try:
        return found.with_columns(pl.col(name).cast(kind) for name, kind in schema.items())
    except PolarsError as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from error


def balanced(scores: pl.DataFrame, score: str, kinds: Iterable[str], by: Sequence[str]) -> pl.DataFrame:
    """The accuracy `value` of one score by the columns `by`, each of two classes counting half.

    For detection `kinds` are kinds of negatives, which count alike, against activating windows, whose quantiles
    count alike; for fuzzing the classes are right and wrong tokens; of intruders it is the share of right picks.
    """
    own = scores.filter(pl.col("score") == score)
    if score == "detection":
        own = own.filter(pl.col("kind").is_in([ACTIVATING, *kinds]))
    classes = pl.col("kind") == ACTIVATING if score == "detection" else pl.col("kind")
    classes = pl.lit(0) if score == "intruder" else classes
    by_kind = own.group_by(*by, classes.alias("class"), "kind", "quantile").agg(pl.col("value").mean())
    by_class = by_kind.group_by(*by, "class").agg(pl.col("value").mean())
    both = by_class.group_by(*by).agg(pl.col("value").mean(), pl.len().alias("classes"))
    return both.filter(pl.col("classes") == (1 if score == "intruder" else 2)).drop("classes").sort(*by)
