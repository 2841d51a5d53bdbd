"""Encodes texts with a tokenizer of `transformers`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from harness.activations.tokens import Ids


Encode = Callable[[list[str]], "list[Ids]"]


def encoder(tokenizer: Any) -> Encode:
    """The ids of texts, without BOS or EOS. A text that mentions a special token is plain text."""
    fast = _own_copy(tokenizer)

    def encode(texts: list[str]) -> list[Ids]:
        if fast is not None:  # half the time of the calling thread that `tokenizer` takes
            encodings = fast.encode_batch_fast(texts, add_special_tokens=False)
            return [np.array(encoding.ids, np.int64) for encoding in encodings]
        encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return [np.array(ids, np.int64) for ids in encoded["input_ids"]]

    return encode


def _own_copy(tokenizer: Any) -> Tokenizer | None:
    """The tokenizer of `tokenizers` behind it, without truncation and padding; None if there is none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return None
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = True
    return copy


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a BOS token in front of a text by itself."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"][:1]) == [bos]


def tokenizer_digest(tokenizer: Any) -> str:
    """A sha256 over what decides the ids of a text."""
    fast = _own_copy(tokenizer)
    vocabulary = sorted(tokenizer.get_vocab().items()) if fast is None else fast.to_str()
    content = [type(tokenizer).__name__, vocabulary, sorted(tokenizer.special_tokens_map.items(), key=str)]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()
