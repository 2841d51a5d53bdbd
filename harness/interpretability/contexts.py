"""`contexts.parquet`: the windows that were shown of each sampled latent, with their tokens and activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.interpretability.examples import ACTIVATING, Examples
from harness.interpretability.windows import NO_TOKEN, Windows

WINDOWS_AT_ONCE = 20_000  # of a row group; bounds memory

SCHEMA = pa.schema(
    {
        "latent": pa.int32(),
        "draw": pa.int8(),
        "kind": pa.string(),  # `activating`, or which kind of negatives
        "quantile": pa.int8(),  # of the highest activation, from 0, the weakest; null for negatives
        "to_explain": pa.bool_(),  # the others are judged
        "window": pa.int32(),
        "context": pa.int32(),  # of the text that was read
        "start": pa.int32(),  # the first token's position in its context
        "peak": pa.int16(),  # the position of the highest activation in the window; null for negatives
        "peak_token": pa.int32(),  # the token there; null for negatives
        "tokens": pa.list_(pa.int32()),
        "activations": pa.list_(pa.float32()),  # one per token; 0 where the latent does not fire
    }
)


def write_contexts(file: Path, examples: Iterable[Examples], windows: Windows) -> Iterator[Examples]:
    """Write a row per window, in the order of `examples`; at no time are the rows of all of them in memory.

    Passes the examples on as it writes them: they are whole in the file when the iterator ends.
    """
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for some in _together(examples):
            writer.write_table(contexts_of(some, windows))
            yield from some


def contexts_of(examples: Sequence[Examples], windows: Windows) -> Any:
    """The rows of some examples, at least one: a table of pyarrow. Tokens and activations are without padding."""
    sizes = [len(one) for one in examples]
    shown, peaks, kinds, quantiles, sides, activations = (
        np.concatenate(parts)
        for parts in zip(
            *((e.windows, e.peaks, e.kinds, e.quantiles, e.to_explain, e.activations) for e in examples),
            strict=True,
        )
    )
    negative = kinds != ACTIVATING
    ids = windows.ids[shown]
    there = ids != NO_TOKEN
    ends = np.concatenate([[0], there.sum(1).cumsum()]).astype(np.int32)
    columns = {
        "latent": np.repeat([one.latent for one in examples], sizes),
        "draw": np.repeat([one.draw for one in examples], sizes),
        "kind": kinds.tolist(),
        "quantile": pa.array(quantiles, mask=negative),
        "to_explain": sides,
        "window": shown,
        "context": windows.context[shown],
        "start": windows.start[shown],
        "peak": pa.array(peaks, mask=negative),
        "peak_token": pa.array(ids[np.arange(len(ids)), peaks], mask=negative),
        "tokens": pa.ListArray.from_arrays(ends, ids[there]),
        "activations": pa.ListArray.from_arrays(ends, activations[there]),
    }
    return pa.table({field.name: pa.array(columns[field.name]).cast(field.type) for field in SCHEMA}, SCHEMA)


def _together(examples: Iterable[Examples]) -> Iterator[list[Examples]]:
    """Some at a time, with about as many windows together."""
    some: list[Examples] = []
    for one in examples:
        some.append(one)
        if sum(map(len, some)) >= WINDOWS_AT_ONCE:
            yield some
            some = []
    if some:
        yield some
