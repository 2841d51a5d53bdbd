"""The page's data: JSON in compressed blocks, of which a browser reads those that it shows.

One block has what the list of latents needs; each further one has the windows of `BLOCK` latents.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from harness.analysis.latent_page.cells import PageCell
from harness.analysis.latent_page.examples import shown_examples

BLOCK = 128  # latents
DIGITS = 4  # significant ones of figures in the list
TABLE = (  # columns of latents.parquet that the list holds: of numbers, of yes or no
    ("latent", "layer", "neighbour"),
    ("firing_rate", "neighbour_jaccard", "max_activation"),
    ("dead", "dense", "unscored", "token_only"),
)
LISTS = ("histogram", "logits_up", "logits_down")
Columns = dict[str, list[Any]]


def packed(data: Any) -> str:
    """JSON, compressed (zlib's format) and in base64."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode("ascii")


@dataclass
class Words:
    """The tokens that occur on the page, numbered in the order in which they are first met."""

    tokens: list[int] = field(default_factory=list)
    _numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # by token; -1: not met yet

    def number(self, tokens: NDArray[Any]) -> NDArray[np.int64]:
        """The page's numbers of these tokens."""
        more = int(tokens.max(initial=-1)) + 1 - len(self._numbers)
        self._numbers = np.pad(self._numbers, (0, max(0, more)), constant_values=-1)
        new = np.unique(tokens)
        new = new[self._numbers[new] < 0]
        self._numbers[new] = np.arange(len(new)) + len(self.tokens)
        self.tokens += new.tolist()
        numbered: NDArray[np.int64] = self._numbers[tokens]
        return numbered

    def texts(self, vocabulary: Sequence[str]) -> list[str]:
        """The text of each; a model may know of more tokens than its tokenizer."""
        known = len(vocabulary)
        return [vocabulary[token] if token < known else f"‹token {token}›" for token in self.tokens]


def columns_of(latents: pl.DataFrame, cell: int, scores: Sequence[str]) -> Columns:
    """The list's columns of one cell, in the order of the table. scores: further columns of numbers."""
    whole, numbers, flags = TABLE
    found: Columns = {"cell": [cell] * len(latents)}
    for name in (*whole, *numbers, *scores, *flags):
        column = latents[name] if name in latents.columns else pl.Series(name, [None] * len(latents))
        if name in flags:
            column = column.fill_null(False).cast(pl.Int8)
        elif name not in whole:
            column = pl.Series(name, _rounded(column.cast(pl.Float64).to_numpy(), DIGITS)).fill_nan(None)
        found[name] = column.to_list()
    texts = latents["explanation"] if "explanation" in latents.columns else pl.Series([None] * len(latents))
    found["explanation"] = [text or "" for text in texts]
    return found


def blocks_of(cell: PageCell, latents: pl.DataFrame, words: Words) -> Iterator[list[dict[str, Any]]]:
    """For each latent of a cell its windows, histogram and logits, in blocks; the last one may be short."""
    for start in range(0, len(latents), BLOCK):
        some = latents[start : start + BLOCK]
        shown = shown_examples(cell.contexts(some["latent"][0], some["latent"][-1]))
        examples = dict(_windows(shown, words))
        rows = some.select("latent", *(name for name in LISTS if name in some.columns))
        yield [_examples(row, examples.get(row["latent"], []), words) for row in rows.to_dicts()]


def _examples(row: dict[str, Any], windows: list[list[Any]], words: Words) -> dict[str, Any]:
    found: dict[str, Any] = {"windows": windows}
    for name in LISTS:
        if values := row.get(name):
            found[name] = values if name == "histogram" else words.number(np.asarray(values)).tolist()
    return found


def _windows(examples: pl.DataFrame, words: Words) -> Iterator[tuple[int, list[list[Any]]]]:
    """Of each latent the windows, each as `[kind, quantile, context, start, peak, tokens, activations]`.

    tokens: by the page's numbers. activations: place and value of those above 0, one after another.
    """
    if not len(examples):
        return
    lengths = examples["tokens"].list.len().to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    tokens = words.number(examples["tokens"].explode().to_numpy()).tolist()
    values = examples["activations"].explode().to_numpy()
    fires = np.flatnonzero(values > 0)
    window = np.searchsorted(ends, fires, side="right")
    places = (fires - (ends - lengths)[window]).tolist()
    strengths = _rounded(values[fires].astype(np.float64), 3).tolist()
    pairs = [part for pair in zip(places, strengths, strict=True) for part in pair]
    bounds = 2 * np.searchsorted(window, np.arange(len(examples) + 1))
    about = examples.select("kind", "quantile", "context", "start", "peak").rows()
    rows = [
        [*row, tokens[end - length : end], pairs[first:last]]
        for row, length, end, first, last in zip(
            about, lengths.tolist(), ends.tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True
        )
    ]
    latents = examples["latent"].to_numpy()
    starts = np.flatnonzero(np.diff(latents, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield int(latents[start]), rows[start:stop]


def _rounded(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """To so many significant digits; NaN and 0 stay."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values))))
        rounded = np.round(values * scale) / scale
    return np.where(values == 0, 0.0, rounded)
