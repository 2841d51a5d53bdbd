"""Small tokenizers whose tokens are words, and contexts written out in plain Python."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from harness.activations.contexts import ContextReader, WindowOfContexts
from harness.activations.text import resolve
from harness.activations.text_spec import ContextSettings, HeldOut, TextSpec

WORDS = [f"w{number}" for number in range(50)]


def tokenizer_of(special: Sequence[str] = ("<bos>", "<eos>", "<pad>"), *, adds_bos: bool = False) -> Any:
    """A token per word; the special tokens come first, so that BOS has the id 0, as GPT-NeoX has it."""
    vocabulary = {token: number for number, token in enumerate((*special, "<unk>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
        )
    names = {f"{token[1:-1]}_token": token for token in special}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def words(*numbers: int) -> str:
    return " ".join(WORDS[number] for number in numbers)


def json_lines(path: Path, texts: Sequence[str | None], column: str = "text") -> str:
    path.write_text("".join(json.dumps({"id": n, column: text}) + "\n" for n, text in enumerate(texts)))
    return str(path)


def spec(files: str | list[str], **keys: Any) -> TextSpec:
    return resolve(TextSpec(files=files, **{"held_out": HeldOut(share=1e-9), **keys}))


def settings(context: int = 8, tokens: int = 100, window: int = 30, **keys: Any) -> ContextSettings:
    return ContextSettings(context=context, tokens=tokens, held_out_tokens=tokens, window=window, **keys)


def windows_of(reader: ContextReader) -> list[WindowOfContexts]:
    return [reader.window(index) for index in range(len(reader))]


def same(one: WindowOfContexts, other: WindowOfContexts) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


class Context(NamedTuple):
    ids: list[int]
    mask: list[bool]
    kept: list[bool]


def written_out(
    texts: Sequence[str | None], tokenizer: Any, wanted: ContextSettings, *, bos: bool
) -> list[Context]:
    """All contexts of the documents, by the definition, token by token."""
    documents = [ids for text in texts if (ids := tokenizer(text or "", add_special_tokens=False)["input_ids"])]
    first = [tokenizer.bos_token_id] if bos else []
    contexts = []
    if wanted.pack:
        current = list(first)
        for ids in documents:
            if current != first:
                current.append(tokenizer.eos_token_id)
            for token in ids:
                if len(current) == wanted.context:
                    contexts, current = [*contexts, current], list(first)
                current.append(token)
            if len(current) == wanted.context:
                contexts, current = [*contexts, current], list(first)
        contexts += [current] if current != first else []
    else:
        contexts = [[*first, *ids][: wanted.context] for ids in documents]
    return [_padded(ids, tokenizer, wanted) for ids in contexts]


def _padded(ids: list[int], tokenizer: Any, wanted: ContextSettings) -> Context:
    special = set(tokenizer.all_special_ids) if wanted.skip_special else set()
    kept = [number >= wanted.skip_first and token not in special for number, token in enumerate(ids)]
    missing = wanted.context - len(ids)
    mask = [True] * len(ids)
    pad, false = [tokenizer.pad_token_id] * missing, [False] * missing
    if wanted.padding == "left":
        return Context(pad + ids, false + mask, false + kept)
    return Context(ids + pad, mask + false, kept + false)
