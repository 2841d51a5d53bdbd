"""The latents of each arm by how often they fire, by strength of activation and by sparse layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import polars as pl

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.arms.statistics import Interval, mean_interval
from harness.analysis.interpretability.latents import ACTIVATING, SampledLatents
from harness.analysis.results.levels import columns

ALL, RATE, QUANTILE, LAYER = "all", "firing rate", "quantile", "layer"
# Where bins of firing rates end, a share of tokens; what fires on none is dead and in no bin
RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RATE_BINS = ("up to 0.01 %", "0.01 to 0.1 %", "0.1 to 1 %", "1 to 10 %", "over 10 %")
SHARES = ("dead", "dense", "token_only", "unscored")
FOUND_AGAIN = "found_again"
FIGURES = ("share", "detection", "detection_hard", "recall", "precision", *SHARES)
FEWEST = 5  # scored latents of a cell in a bin; the mean of fewer says nothing


@dataclass(frozen=True)
class Bin:
    """A part of the latents, or of the windows that they fire in. place: from 1, the lowest first."""

    by: str
    place: int
    name: str


def breakdown_rows(arms: Sequence[Arm], sampled: SampledLatents) -> list[dict[str, Any]]:
    """The latents table: of each arm all sampled latents, then these by bins; means over `n` seeds with intervals.

    Figures, each of one cell first: `share` of the sample; `detection` and `detection_hard` over the alive latents
    that have a score, where a cell has at least five; of quantiles of activation, the weakest first, `recall`, the
    mean over latents of the share of such windows that are recognised, and `precision`, the share of windows said
    to be activating that are, if there were as many windows of that quantile as random ones; `found_again`: the
    share of the sampled latents that other seeds have, without an interval, as samples add more to the error of
    pairs than there is to see (the metric `found_again` is of all latents, and has one); `dead`, `dense`,
    `token_only`, `unscored`: shares of the bin's latents. latents: their number, all seeds together.
    """
    own = sampled.of(arms)
    return [row for place, arm in enumerate(arms) for row in _arm_rows(place, arm, own)]


def _arm_rows(place: int, arm: Arm, sampled: SampledLatents) -> Iterator[dict[str, Any]]:
    latents, scores = (one.filter(pl.col("arm") == place) for one in (sampled.latents, sampled.scores))
    if latents.is_empty():
        return
    figures = [
        *_by_latents(latents, lambda _: [(Bin(ALL, 1, "all"), pl.lit(True))]),
        *_by_latents(latents, _rate_bins),
        *_by_latents(latents, _layers),
        *_by_quantile(scores),
    ]
    for bin_, of_seeds in figures:
        counts = [int(one["latents"]) for one in of_seeds if one.get("latents") is not None]
        row = {"arm": arm.label, **columns(arm.levels), "by": bin_.by, "place": bin_.place, "bin": bin_.name}
        row |= {"n": len(of_seeds), "latents": sum(counts) if counts else None}
        for name in FIGURES:
            row |= interval_columns(name, _of_shares(_known(of_seeds, name)))
        again = _known(of_seeds, FOUND_AGAIN)
        row[FOUND_AGAIN] = fmean(again) if again else None
        yield row


def _known(of_seeds: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [float(value) for one in of_seeds if (value := one.get(name)) is not None]


def _of_shares(values: Sequence[float]) -> Interval | None:
    """The t-interval of their mean, within what a share can be."""
    found = mean_interval(values)
    if found is None or found.low is None or found.high is None:
        return found
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


Bins = Callable[[pl.DataFrame], list[tuple[Bin, pl.Expr]]]


def _rate_bins(latents: pl.DataFrame) -> list[tuple[Bin, pl.Expr]]:
    low = (0.0, *RATES[:-1])
    rate = pl.col("firing_rate")
    return [
        (Bin(RATE, place, name), (rate > start) & (rate <= end))
        for place, (name, start, end) in enumerate(zip(RATE_BINS, low, RATES, strict=True), start=1)
    ]


def _layers(latents: pl.DataFrame) -> list[tuple[Bin, pl.Expr]]:
    """Only of stacked SAEs."""
    layers = sorted(latents["layer"].unique().to_list())
    if len(layers) < 2:
        return []
    return [(Bin(LAYER, layer + 1, f"layer {layer + 1}"), pl.col("layer") == layer) for layer in layers]


def _by_latents(latents: pl.DataFrame, bins: Bins) -> Iterator[tuple[Bin, list[dict[str, Any]]]]:
    """Of each bin that has latents, the figures of each seed."""
    scored = pl.col("detection").is_not_null()
    for bin_, within in bins(latents):
        found = (
            latents.with_columns(within.alias("within"))
            .group_by("seed")
            .agg(
                pl.col("within").sum().alias("latents"),
                pl.col("within").mean().alias("share"),
                *(_mean_of_scored(name, scored) for name in ("detection", "detection_hard")),
                *(pl.col(name).filter("within").mean().alias(name) for name in (FOUND_AGAIN, *SHARES)),
            )
            .sort("seed")
        )
        if found["latents"].sum():
            yield bin_, found.to_dicts()


def _mean_of_scored(name: str, scored: pl.Expr) -> pl.Expr:
    of = scored & pl.col("within") & ~pl.col("dead")
    return pl.when(of.sum() >= FEWEST).then(pl.col(name).filter(of).mean()).alias(name)


def _by_quantile(scores: pl.DataFrame) -> Iterator[tuple[Bin, list[dict[str, Any]]]]:
    """Recall and precision of detection by strength of activation."""
    detection = scores.filter(pl.col("score") == "detection")
    activating = detection.filter((pl.col("kind") == ACTIVATING) & pl.col("quantile").is_not_null())
    right = _over_latents(detection.filter(pl.col("kind") == "random"), "seed")
    found = (
        _over_latents(activating, "seed", "quantile")
        .rename({"value": "recall"})
        .join(right, on="seed", how="left")
    )
    said = pl.col("recall") + 1 - pl.col("value")  # to be activating, of both
    found = found.with_columns(precision=pl.when(said > 0).then(pl.col("recall") / said))
    quantiles = sorted(activating["quantile"].unique().to_list())
    for place, quantile in enumerate(quantiles, start=1):
        own = found.filter(pl.col("quantile") == quantile).sort("seed")
        yield Bin(QUANTILE, place, _name(place, len(quantiles))), own.select("recall", "precision").to_dicts()


def _over_latents(scores: pl.DataFrame, *by: str) -> pl.DataFrame:
    """The mean over latents of their shares of right answers."""
    answers = pl.col("answers")
    of_latents = scores.group_by(*by, "latent").agg((pl.col("value") * answers).sum() / answers.sum())
    return of_latents.group_by(*by).agg(pl.col("value").mean())


def _name(place: int, count: int) -> str:
    """As in `1 of 5 (weakest)`."""
    remark = " (weakest)" if place == 1 else " (strongest)" if place == count else ""
    return f"{place} of {count}{remark}"
