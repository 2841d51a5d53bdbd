"""Peers that capture the same activations, each in its own environment.

`python -m benchmarks.capture_peers NAME FOLDER TOKENS` prints the CPU seconds per token of the peer's own buffer,
which shuffles and gives batches for training, and of its language model alone. FOLDER is what
`benchmarks.capture.make` has made. Buffers have as many tokens as a window of ours, and forward passes as many
contexts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.capture_shape import BATCH, CONTEXT, HEADS, LAYERS, PASS, VOCABULARY, WIDTH, WINDOW, cpu_seconds

Peer = tuple[Callable[[], Any], Callable[[torch.Tensor], Any]]  # the next batch; the model alone on ids


def sae_lens(folder: Path, tokens: int) -> Peer:
    """SAELens: `ActivationsStore` on a HookedTransformer of the same sizes, which stops at the hook."""
    from datasets import load_dataset
    from sae_lens import ActivationsStore
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformers import PreTrainedTokenizerFast

    sizes = {"n_layers": LAYERS, "d_model": WIDTH, "n_heads": HEADS, "d_head": WIDTH // HEADS, "d_mlp": 4 * WIDTH}
    config = HookedTransformerConfig(**sizes, n_ctx=CONTEXT, act_fn="gelu_new", d_vocab=VOCABULARY, device="cpu")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.bos_token = tokenizer.pad_token = tokenizer.eos_token
    model = HookedTransformer(config, tokenizer)
    text = load_dataset("json", data_files=str(folder / "text.jsonl"), split="train", cache_dir=str(folder / "hf"))
    store = ActivationsStore(
        model=model,
        dataset=text,
        streaming=False,
        hook_name=f"blocks.{LAYERS - 1}.hook_resid_post",
        hook_head_index=None,
        context_size=CONTEXT,
        d_in=WIDTH,
        n_batches_in_buffer=WINDOW // CONTEXT,
        total_training_tokens=tokens,
        store_batch_size_prompts=PASS,
        train_batch_size_tokens=BATCH,
        prepend_bos=False,
        normalize_activations="none",
        device=torch.device("cpu"),
        dtype="float32",
    )
    return lambda: next(store), lambda ids: model(ids, stop_at_layer=LAYERS)


def dictionary_learning(folder: Path, tokens: int) -> Peer:
    """dictionary_learning: `ActivationBuffer` on nnsight's model."""
    from dictionary_learning import ActivationBuffer
    from nnsight import LanguageModel

    model = LanguageModel(str(folder), device_map="cpu", dispatch=True)
    model.tokenizer.pad_token = model.tokenizer.eos_token
    lines = (folder / "text.jsonl").read_text().splitlines()

    def texts() -> Iterator[str]:
        # one context of text each: it cuts a longer one off, and would tokenize the rest for nothing
        for line in lines:
            words = json.loads(line)["text"].split()
            for start in range(0, len(words) - CONTEXT + 1, CONTEXT):
                yield " ".join(words[start : start + CONTEXT])

    buffer = ActivationBuffer(
        texts(),
        model,
        model.transformer.h[LAYERS - 1],
        d_submodule=WIDTH,
        n_ctxs=WINDOW // CONTEXT,
        ctx_len=CONTEXT,
        refresh_batch_size=PASS,
        out_batch_size=BATCH,
        device="cpu",
    )
    plain = model._model
    return lambda: next(buffer), lambda ids: plain.transformer(input_ids=ids, use_cache=False)


PEERS = {"sae_lens": sae_lens, "dictionary_learning": dictionary_learning}


@torch.no_grad()
def main(name: str, folder: Path, tokens: int) -> dict[str, float]:
    """CPU seconds per token of both."""
    batch, alone = PEERS[name](folder, tokens)
    ids = torch.randint(VOCABULARY - 2, (PASS, CONTEXT))
    alone(ids)
    passes = max(1, tokens // ids.numel())
    model = cpu_seconds(lambda: [alone(ids) for _ in range(passes)]) / (passes * ids.numel())
    seen = 0

    def fill() -> None:
        nonlocal seen
        while seen < tokens:
            seen += len(batch())

    return {"buffer": cpu_seconds(fill) / seen, "model": model}


if __name__ == "__main__":
    answer = main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(answer))
