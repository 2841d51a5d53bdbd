"""What capturing costs beside the language model's own forward pass: `python -m benchmarks.capture [--peers]`.

In CPU seconds, which other processes on the machine hardly change. The model is of GPT-2's architecture, with
random weights; the hook is at its last block, so that its own pass runs the same layers. With `--peers`, which
`make bench` installs, the buffers of SAELens and dictionary_learning take their turns with ours, on the same text.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmarks.capture_shape import CONTEXT, HEADS, LAYERS, PASS, VOCABULARY, WIDTH, WINDOW, cpu_seconds
from benchmarks.table import Value, table
from benchmarks.turns import ROOT
from harness.activations.capture_windows import capture_windows
from harness.activations.windows import WindowMaker
from harness.sources.kinds import load_source
from harness.sources.pretrained import Pretrained

WINDOWS = 4  # per round
ROUNDS = 3
ENVIRONMENTS = {"sae_lens": ".venv-peers", "dictionary_learning": ".venv-dictionary-learning"}

SOURCE = """\
kind: pretrained
model: {{name: {folder}}}
text: {{files: {folder}/text.jsonl, held_out: {{share: 0.05}}}}
activations:
  hook: transformer.h.{last}
  context: {context}
  contexts_per_pass: {contexts}
  tokens: {tokens}
  held_out_tokens: 1024
  window: {window}
"""


def main() -> None:
    """Print microseconds of the CPU per token: of buffers, of the model that fills them alone, and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capture", description=__doc__)
    parser.add_argument("--peers", action="store_true")
    peers = ENVIRONMENTS if parser.parse_args().peers else {}
    rounds: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = make(folder)
        for number in range(ROUNDS):
            rounds.setdefault("harness", []).append(ours(source, folder / str(number)))
            for name, environment in peers.items():
                rounds.setdefault(name, []).append(peer(name, ROOT / environment, folder))
    rows: list[list[Value]] = []
    for name, seen in rounds.items():
        buffer, model = (1e6 * statistics.median(one[part] for one in seen) for part in ("buffer", "model"))
        rows.append([name, buffer, model, statistics.median(one["model"] / one["buffer"] for one in seen)])
    print(table(["", "captured, µs per token", "its model alone", "rate beside its model's own pass"], rows))


def ours(source: Pretrained, root: Path) -> dict[str, float]:
    """CPU seconds per token: windows on their way to disk, and the model alone on the same contexts."""
    store = root / "mine" / "activations"
    tokens = sum(source.stored.tokens.values())
    captured = cpu_seconds(lambda: capture_windows(source, store)) / tokens
    maker = WindowMaker.open(store, torch.device("cpu"))
    ids = maker.reader("train").window(0).ids
    own_pass(maker, ids)
    alone = cpu_seconds(lambda: [own_pass(maker, ids) for _ in range(WINDOWS)]) / (WINDOWS * ids.size)
    return {"buffer": captured, "model": alone}


@torch.inference_mode()
def own_pass(maker: WindowMaker, ids: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
    """The model without its head, in batches of the same size."""
    for batch in torch.split(torch.from_numpy(ids), maker.spec.contexts_per_pass):
        maker.model.transformer(input_ids=batch, use_cache=False)


def peer(name: str, environment: Path, folder: Path) -> dict[str, float]:
    """The same of a peer, in its environment."""
    command: list[str | Path] = [
        environment / "bin" / "python",
        "-m",
        "benchmarks.capture_peers",
        name,
        folder,
        str(WINDOWS * WINDOW),
    ]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    said = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **offline}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    answer: dict[str, float] = json.loads(said.splitlines()[-1])
    return answer


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
    texts = [" ".join(generator.choice(words, 400)) for _ in range(WINDOW * (WINDOWS + 4) // 300)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    values = {
        "last": LAYERS - 1,
        "context": CONTEXT,
        "tokens": WINDOWS * WINDOW,
        "window": WINDOW,
        "contexts": PASS,
    }
    (folder / "source.yaml").write_text(SOURCE.format(folder=folder, **values))
    source = load_source(folder / "source.yaml")
    assert isinstance(source, Pretrained)
    return source


if __name__ == "__main__":
    main()
