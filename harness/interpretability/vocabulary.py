"""The text of each token of a language model, written once per study, so that tables and pages need no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.files import write_atomically

FILE = "tokens.parquet"
AT_ONCE = 4096  # tokens


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text that each token adds to what stands before it, with its leading space.

    Some tokenizers drop a space at the beginning of a text, so each token is decoded behind another one.
    """
    before = tokenizer.encode("a", add_special_tokens=False)[-1:]
    prefix = tokenizer.decode(before)
    texts: list[str] = []
    for start in range(0, len(ids), AT_ONCE):
        pairs = [[*before, int(token)] for token in ids[start : start + AT_ONCE]]
        texts += tokenizer.batch_decode(pairs, clean_up_tokenization_spaces=False)
    return [text.removeprefix(prefix) for text in texts]


def write_vocabulary(folder: Path, tokenizer: Any) -> Path:
    """Write `tokens.parquet`, the columns `token` and `text`, into the folder of a study's latents."""
    texts = token_texts(tokenizer, range(len(tokenizer)))
    table = pa.table({"token": pa.array(range(len(texts)), pa.int32()), "text": pa.array(texts, pa.string())})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    write_atomically(folder / FILE, buffer.getvalue().to_pybytes())
    return folder / FILE
