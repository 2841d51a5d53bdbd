"""GPT-2's sizes, random weights, a text and a tokenizer for it, as a streamed store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.shape import Shape
from harness.sources.kinds import load_source
from harness.sources.model_cost import ModelCost
from harness.sources.prepare import prepare_missing

DTYPE = "bfloat16"  # of the model
CONTEXT = 64  # tokens
DOCUMENT = 400  # words

Text = tuple[Path, Path]  # a parquet file with a column `text`, and the folder of a tokenizer for it


@dataclass(frozen=True)
class Scale:
    """Of cells, model and text. layers: blocks of the model; the hook is behind block number `hook`."""

    shape: Shape
    layers: int
    heads: int
    hook: int
    words: int
    window: int  # tokens
    alone: int  # windows, and seconds, of each part alone
    fastest: int  # tokens per second that there is text for


FULL = Scale(Shape(768, 24_576, 32, 8192), 12, 12, hook=8, words=50_000, window=262_144, alone=4, fastest=500_000)
QUICK = Scale(Shape(32, 128, 4, 128), 2, 2, hook=0, words=500, window=2048, alone=1, fastest=20_000)


@contextmanager
def streamed(scale: Scale, seconds: float, text: Text | None) -> Iterator[tuple[Path, ModelCost]]:
    """A streamed store with text for so many seconds, and what its model costs."""
    tokens = scale.window * (8 + scale.alone) + int(seconds * scale.fastest)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        vocabulary = _save_tokenizer(scale, root / "model", text)
        _save_model(scale, root / "model", vocabulary)
        file = _save_text(scale, root, tokens, text)
        source = {
            "kind": "pretrained",
            "model": {"name": str(root / "model"), "dtype": DTYPE},
            "text": {"files": str(file), "held_out": {"files": str(root / f"held_out{file.suffix}")}},
            "activations": {
                "hook": f"transformer.h.{scale.hook}",
                "context": CONTEXT,
                "bos": "every_context",
                "skip_special": False,
                "tokens": tokens,
                "held_out_tokens": 2 * scale.shape.batch,
                "window": scale.window,
                "feed": "stream",
            },
        }
        if file.suffix == ".txt":
            source["text"]["sample_by"] = "line"  # type: ignore[index]
        path = root / "bench.yaml"
        path.write_text(yaml.safe_dump(source), encoding="utf-8")
        loaded = load_source(path)
        prepare_missing(loaded, root / "data", root / "results", lambda _: None)
        cost = loaded.model_cost()
        assert cost is not None
        yield root / "data" / "bench" / "activations", cost


def _save_tokenizer(scale: Scale, folder: Path, text: Text | None) -> int:
    """The given one, or one whose words are numbers. Returns how many entries it has."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if text is not None:
        shutil.copytree(text[1], folder)
        return len(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    vocabulary = {**{str(number): number for number in range(scale.words)}, "<end>": scale.words}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<end>", eos_token="<end>")
    made.save_pretrained(folder)
    return scale.words + 1


def _save_model(scale: Scale, folder: Path, vocabulary: int) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": scale.shape.width, "n_layer": scale.layers, "n_head": scale.heads, "n_positions": CONTEXT}
    last = vocabulary - 1
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, bos_token_id=last, eos_token_id=last, **sizes))
    model.to(getattr(torch, DTYPE)).save_pretrained(folder)


def _save_text(scale: Scale, root: Path, tokens: int, text: Text | None) -> Path:
    """Enough of it for so many tokens, as often as that takes, and a little as `held_out`. Returns the file."""
    if text is None:
        generator = np.random.default_rng(0)
        lines = [" ".join(map(str, generator.integers(scale.words, size=DOCUMENT))) + "\n" for _ in range(1000)]
        (root / "held_out.txt").write_text("".join(lines[: 1 + 4 * scale.shape.batch // DOCUMENT]))
        with (root / "text.txt").open("w", encoding="utf-8") as opened:
            for _ in range(-(-tokens // (DOCUMENT * len(lines)))):
                opened.writelines(lines)
        return root / "text.txt"
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pq.read_table(text[0], columns=["text"])
    characters = sum(map(len, rows["text"].to_pylist()))
    pq.write_table(rows.slice(0, 100), root / "held_out.parquet")
    pq.write_table(pa.concat_tables([rows] * -(-6 * tokens // characters)), root / "text.parquet")
    return root / "text.parquet"
