"""Which windows the page shows of a latent: the strongest, some of each quantile, some where it is silent."""

from __future__ import annotations

import polars as pl

ACTIVATING = "activating"
KINDS = (ACTIVATING, "random", "same_token", "similar", "neighbour")  # in the order of the page
STRONGEST, OTHERS, SILENT = (
    4,
    2,
    2,
)  # windows of the highest quantile, of each other one, of each kind of negatives


def shown_examples(contexts: pl.DataFrame) -> pl.DataFrame:
    """At most so many windows per latent, each once, in the order in which the page has them.

    Columns: latent, kind (its place in `KINDS`), quantile (-1 for negatives), context, start, peak (-1), tokens,
    activations. Activating ones come first, the strongest before the others.
    """
    numbered = contexts.with_columns(
        kind=pl.col("kind").cast(pl.Enum(KINDS)).to_physical().cast(pl.Int8),
        quantile=pl.col("quantile").fill_null(-1),
        peak=pl.col("peak").fill_null(-1),
        strength=pl.col("activations").list.max(),
    )
    once = numbered.sort("latent", "kind", "draw", maintain_order=True).unique(
        ["latent", "kind", "window"], keep="first", maintain_order=True
    )
    order = {"latent": False, "kind": False, "quantile": True, "strength": True}  # whether the highest come first
    sorted_ = once.sort(list(order), descending=list(order.values()), maintain_order=True)
    highest = pl.col("quantile").max().over("latent")
    most = (
        pl.when(pl.col("kind") > 0)
        .then(SILENT)
        .when(pl.col("quantile") == highest)
        .then(STRONGEST)
        .otherwise(OTHERS)
    )
    place = pl.int_range(pl.len()).over("latent", "kind", "quantile")
    columns = ("latent", "kind", "quantile", "context", "start", "peak", "tokens", "activations")
    return sorted_.filter(place < most).select(columns)
