"""Tiny language models of several architectures on disk, as somebody else may have trained them, and some text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from harness.sources.kinds import load_source
from harness.sources.pretrained import Pretrained

WORDS = [f"word{number}" for number in range(90)]
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = 300  # at least what any of the tokenizers has
WIDTH, CONTEXT = 16, 12

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}
IDS = {"bos_token_id": 91, "eos_token_id": 92, "pad_token_id": 93}


class Architecture(NamedTuple):
    """make: a new model. block: the path of its second block. tokenizer: its own kind of one."""

    make: Callable[[], Any]
    block: str
    tokenizer: Callable[[], Any]


def _gpt2() -> Any:
    sizes = {"n_embd": WIDTH, "n_layer": 3, "n_head": 2, "n_positions": 32}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes, **IDS))


def words(adds_bos: bool) -> Any:
    """A word is a token."""
    vocabulary = {word: number for number, word in enumerate([*WORDS, *SPECIAL.values()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_bos:
        tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def letters() -> Any:
    """A byte is a token, and there is no BOS: as Qwen's, without merges."""
    vocabulary = {letter: number for number, letter in enumerate([*BYTES, "<|endoftext|>"])}
    return Qwen2Tokenizer(vocab=vocabulary, merges=[])


ARCHITECTURES = {
    "gpt2": Architecture(_gpt2, "transformer.h.1", lambda: words(False)),
    "neox": Architecture(
        lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, **IDS)), "gpt_neox.layers.1", lambda: words(False)
    ),
    "llama": Architecture(
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **IDS)), "model.layers.1", lambda: words(True)
    ),
    "gemma": Architecture(
        lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, **IDS, head_dim=8, sliding_window=8)),
        "model.layers.1",
        lambda: words(True),
    ),
    "qwen": Architecture(lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, **IDS)), "model.layers.1", letters),
}


def save_model(name: str, folder: Path) -> Path:
    """A model of that architecture with random weights, and its tokenizer."""
    architecture = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = architecture.make()
        with torch.no_grad():  # as large as those of trained models, so that positions and contexts matter
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    architecture.tokenizer().save_pretrained(folder)
    return folder


def save_text(file: Path, documents: int = 300, seed: int = 0) -> Path:
    """Documents of 1 to 39 words, as JSON Lines."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 40, documents)
    texts = [" ".join(generator.choice(WORDS, length)) for length in lengths]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


def source_file(
    folder: Path, model: Path, text: Path, hook: str, *changes: tuple[str, str], **more: object
) -> Pretrained:
    """A source of 600 + 100 tokens in windows of 256. changes: of the file's text. more: of `activations`."""
    activations = {"hook": hook, "context": CONTEXT, "tokens": 600, "held_out_tokens": 100, "window": 256, **more}
    lines = "".join(f"  {key}: {value}\n" for key, value in activations.items())
    content = (
        f"kind: pretrained\nmodel: {{name: {model}}}\ntext: {{files: {text}, held_out: {{share: 0.3}}}}\n"
        f"activations:\n{lines}"
    )
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    path = folder / "mine.yaml"
    path.write_text(content)
    source = load_source(path)
    assert isinstance(source, Pretrained)
    return source
