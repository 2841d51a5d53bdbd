"""Packs documents into contexts of token ids, the input of the language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.activations.documents import Document

Ids = NDArray[np.int64]
DOCUMENTS_AT_ONCE = 1024  # encoded in one call, on all threads


def packed_contexts(documents: Sequence[Document], tokenizer: Any, context: int, tokens: int, seed: int) -> Ids:
    """Token ids [contexts, context]: documents in a seeded order, each after a separator, without gaps.

    Takes documents until there are `tokens` tokens, not counting separators, or no document is left. The end of
    the last context is filled with separators. `tokenizer` is one of `transformers`; its end-of-text token is the
    separator.
    """
    order = np.random.default_rng(seed).permutation(len(documents))
    separator = tokenizer.eos_token_id
    stream: list[Ids] = []
    found = 0
    for start in range(0, len(order), DOCUMENTS_AT_ONCE):
        texts = [documents[i].text for i in order[start : start + DOCUMENTS_AT_ONCE]]
        # split_special_tokens: a text may mention <|endoftext|> without ending there
        encoded = tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            verbose=False,
        )
        for ids in encoded["input_ids"]:
            ids = ids[: tokens - found]
            stream.append(np.array([separator, *ids], dtype=np.int64))
            found += len(ids)
            if found == tokens:
                return _packed(stream, context, separator)
    return _packed(stream, context, separator)


def _packed(stream: list[Ids], context: int, separator: int) -> Ids:
    flat = np.concatenate([np.empty(0, np.int64), *stream])
    missing = -len(flat) % context
    return np.pad(flat, (0, missing), constant_values=separator).reshape(-1, context)
