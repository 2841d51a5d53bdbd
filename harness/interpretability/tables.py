"""The tables of a cell's sampled latents and of their scores, and those of all cells together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CONTEXTS, ANSWERS, LATENTS, FIGURES = "contexts.parquet", "answers.parquet", "latents.parquet", "figures.json"
SCORES = "latent_scores.parquet"
OF_LATENTS = (
    "detection",
    "detection_same_token",
    "detection_similar",
    "detection_neighbour",
    "detection_hard",
    "detection_permuted",
    "fuzzing",
    "intruder",
)
# One row per sampled latent. Null: not known, as scores of dead latents are.
SCHEMA = pa.schema(
    [
        ("latent", pa.int32()),
        ("layer", pa.int8()),
        ("firing_rate", pa.float64()),
        ("dead", pa.bool_()),
        ("dense", pa.bool_()),
        ("unscored", pa.bool_()),
        ("explanation", pa.string()),
        ("neighbour", pa.int32()),
        ("neighbour_jaccard", pa.float64()),
        ("max_activation", pa.float32()),
        *((score, pa.float64()) for score in OF_LATENTS),
        ("token_only", pa.bool_()),
        ("direction_cosine", pa.float64()),
        ("direction_share", pa.float64()),
        ("logit_kl", pa.float64()),
        ("shallow_cosine", pa.float64()),
        ("found_again", pa.float64()),
        ("histogram", pa.list_(pa.int32())),
        ("logits_up", pa.list_(pa.int32())),
        ("logits_down", pa.list_(pa.int32())),
    ]
)

# What a judge said of a latent in one draw and one repetition: the share of right answers, of so many
LATENT_SCORES = pa.schema(
    [
        ("latent", pa.int32()),
        ("score", pa.string()),
        ("kind", pa.string()),  # of the windows asked about
        ("quantile", pa.int8()),  # null for negatives
        ("draw", pa.int8()),
        ("repetition", pa.int8()),
        ("value", pa.float64()),
        ("answers", pa.int32()),
    ]
)


def latents_table(columns: Mapping[str, Any], latents: int) -> pa.Table:
    """The table of so many latents; a column that is not there is unknown. Raises ValueError for one too many."""
    if unknown := columns.keys() - {*SCHEMA.names}:
        raise ValueError(f"expected columns of the table of latents, got {', '.join(sorted(unknown))}")
    return pa.table([_column(columns.get(field.name), field, latents) for field in SCHEMA], schema=SCHEMA)


def _column(values: Any, field: pa.Field, latents: int) -> pa.Array | pa.ChunkedArray:
    """NaN is null, as None is."""
    if values is None:
        return pa.nulls(latents, field.type)
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if pa.types.is_list(field.type):
        values = [None if row is None else [int(entry) for entry in row] for row in values]
    return pa.array(values, from_pandas=True).cast(field.type)


def write_together(folders: Mapping[str, Path], results: Path) -> None:
    """Write the tables of all cells into a study's results, with the column `cell` first and without lists."""
    for file, schema in ((LATENTS, SCHEMA), (SCORES, LATENT_SCORES)):
        plain = pa.schema([field for field in schema if not pa.types.is_list(field.type)])
        whole = pa.schema([("cell", pa.string()), *plain])
        with replacing_table(results / file) as path, pq.ParquetWriter(path, whole, compression="zstd") as writer:
            for cell, folder in folders.items():
                table = pq.read_table(folder / file, columns=plain.names)
                writer.write_table(table.add_column(0, whole.field("cell"), [[cell] * len(table)]).cast(whole))


@contextmanager
def replacing_table(path: Path) -> Iterator[Path]:
    """Yield a file to write, which takes the place of `path` if the block ends without an error."""
    beside = path.with_name(f"{path.name}.part")
    yield beside
    beside.replace(path)
