"""Reads a corpus from disk: documents in two splits, and their tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from harness.activations.folders import read_json
from harness.errors import UserError

END_OF_TEXT = "<|endoftext|>"  # the only special token, between documents
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"

Split = Literal["train", "held_out"]


class Document(NamedTuple):
    """One docstring, and the module file that contains it, such as `numpy/lib/npyio.py`."""

    source: str
    text: str


def read_documents(corpus: Path, split: Split) -> list[Document]:
    """All documents of one split, sorted by file. Raises UserError if there is no corpus."""
    read_json(corpus / MANIFEST, "a corpus")
    try:
        table = pl.read_parquet(corpus / f"{split}.parquet", columns=["source", "text"])
    except (OSError, pl.exceptions.PolarsError) as failure:
        raise UserError(f"{corpus / split}.parquet: not readable: {str(failure).splitlines()[0]}") from None
    return [Document(*row) for row in table.iter_rows()]
