"""The text of each token: what it adds to the text before it."""

from __future__ import annotations

import polars as pl
import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from harness.interpretability.vocabulary import token_texts, write_vocabulary

TEXT = "def add(a, b):\n    return a  + b  # the sum , with spaces\n"


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    made = Tokenizer(BPE())
    alphabet = []
    if kind == "byte level":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        made.decoder = decoders.Metaspace(prepend_scheme="always")
    made.train_from_iterator([TEXT], BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.mark.parametrize("kind", ["byte level", "sentence pieces"])
def test_the_texts_of_tokens_make_up_the_text(kind: str, tmp_path):
    made = tokenizer(kind)
    texts = token_texts(made, made.encode(TEXT))
    assert "".join(texts) == TEXT
    assert " the" in texts or "▁the" not in texts
    table = pl.read_parquet(write_vocabulary(tmp_path, made))
    assert table["token"].to_list() == list(range(len(made)))
    assert table["text"].to_list() == token_texts(made, range(len(made)))
