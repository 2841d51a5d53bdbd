"""The trained model: its folder, its losses, and what must not happen on the way."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.activations.documents import read_documents
from harness.activations.language_model import learning_rate, mean_loss, train_language_model
from harness.activations.tokens import packed_contexts
from harness.errors import UserError
from harness.sources.docstrings import Docstrings

from .conftest import Folders, MakeSource, snapshot


def test_metrics_are_written_and_training_helped(folders: Folders) -> None:
    metrics = json.loads((folders.language_model / "metrics.json").read_text())
    assert 0 < metrics["bigram_held_out_loss"] < metrics["unigram_held_out_loss"] < math.log(400)
    assert metrics["held_out_loss"] < math.log(400) - 0.3
    assert metrics["tokens"] == 20_000 // 512 * 512


def test_the_folder_loads_by_the_ordinary_calls(folders: Folders) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders.language_model, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folders.language_model, local_files_only=True)
    held_out = packed_contexts(read_documents(folders.corpus, "held_out"), tokenizer, 32, 100_000, 0)
    metrics = json.loads((folders.language_model / "metrics.json").read_text())
    assert mean_loss(model, held_out) == pytest.approx(metrics["held_out_loss"], rel=1e-5)
    assert not list(folders.language_model.glob("*.bin"))


def test_a_second_training_gives_the_same_bits(source: Docstrings, folders: Folders, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    train_language_model(source, folders.corpus, tmp_path / "again")
    assert snapshot(tmp_path / "again") == snapshot(folders.language_model)
    assert torch.equal(torch.get_rng_state(), state)


def test_heads_that_do_not_divide_the_width(make_source: MakeSource, folders: Folders, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"tiny\.yaml:8: language_model\.heads: expected a divisor of .* 16, got 3"
    ):
        train_language_model(make_source(("heads: 2", "heads: 3")), folders.corpus, tmp_path / "lm")
    assert not list(tmp_path.iterdir())


def test_contexts_are_gapless_and_separated(folders: Folders) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders.language_model)
    documents = read_documents(folders.corpus, "held_out")
    ids = packed_contexts(documents, tokenizer, context=32, tokens=500, seed=3)
    flat, separator = ids.ravel(), tokenizer.eos_token_id
    assert (flat != separator).sum() == 500
    texts = [t for t in tokenizer.decode(flat).split(tokenizer.eos_token) if t]
    assert all(any(d.text.startswith(t) for d in documents) for t in texts)
    assert np.array_equal(ids, packed_contexts(documents, tokenizer, context=32, tokens=500, seed=3))
    assert not np.array_equal(ids, packed_contexts(documents, tokenizer, context=32, tokens=500, seed=4))


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[4] == 1.0
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=1e-3)
