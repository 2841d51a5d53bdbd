"""What capturing costs beside the language model's own forward pass: `python -m benchmarks.capture`.

In CPU seconds, which other processes on the machine hardly change. The model is of GPT-2's architecture, with
random weights; the hook is at its last block, so that its own pass runs the same layers.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from harness.activations.capture_windows import capture_windows
from harness.activations.windows import WindowMaker
from harness.sources.kinds import load_source
from harness.sources.pretrained import Pretrained

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY = 6, 384, 6, 64, 8_000
WINDOW = 4_096  # tokens
ROUNDS = 3

SOURCE = """\
kind: pretrained
model: {{name: {folder}}}
text: {{files: {folder}/text.jsonl, held_out: {{share: 0.2}}}}
activations:
  hook: transformer.h.{last}
  context: {context}
  tokens: {tokens}
  held_out_tokens: 1024
  window: {window}
"""


def main() -> None:
    """Print CPU seconds per window of the model alone, of a window, and of a window on its way to disk."""
    with tempfile.TemporaryDirectory() as temporary:
        source = make(Path(temporary))
        before = time.process_time()
        capture_windows(source, Path(temporary) / "store")
        captured = (time.process_time() - before) / (ROUNDS + 1)
        maker = WindowMaker.open(Path(temporary) / "store", torch.device("cpu"))
        maker.window("train", 0)  # warm
        alone, made = [], []
        for index in range(ROUNDS):
            contexts = maker.reader("train").window(index)
            alone.append(cpu_seconds(lambda ids=contexts.ids: own_pass(maker, ids)))
            made.append(cpu_seconds(lambda index=index: maker.window("train", index)))
    print(f"model alone {np.median(alone):.2f}, window {np.median(made):.2f}, captured {captured:.2f} CPU seconds")
    print(f"rate of a window beside the model's own pass: {np.median(alone) / np.median(made):.3f}")


@torch.inference_mode()
def own_pass(maker: WindowMaker, ids: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
    """The model without its head, in batches of the same size."""
    for batch in torch.split(torch.from_numpy(ids), maker.spec.contexts_per_pass):
        maker.model.transformer(input_ids=batch, use_cache=False)


def cpu_seconds(run: object) -> float:
    """Of all threads of this process."""
    before = time.process_time()
    run()  # type: ignore[operator]
    return time.process_time() - before


def make(folder: Path) -> Pretrained:
    """A model, enough text, and a source of them."""
    words = [f"w{number}" for number in range(VOCABULARY - 2)]
    vocabulary = {word: number for number, word in enumerate([*words, "<unk>", "</s>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>").save_pretrained(
        folder
    )
    sizes = {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS, "n_positions": CONTEXT}
    GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes)).save_pretrained(folder)
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(words, 400)) for _ in range(WINDOW * (ROUNDS + 1) // 200)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    values = {"last": LAYERS - 1, "context": CONTEXT, "tokens": WINDOW * ROUNDS, "window": WINDOW}
    (folder / "source.yaml").write_text(SOURCE.format(folder=folder, **values))
    source = load_source(folder / "source.yaml")
    assert isinstance(source, Pretrained)
    return source


if __name__ == "__main__":
    main()
