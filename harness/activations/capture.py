"""What a language model computes inside, token by token, from the corpus into an activation store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.activations.documents import Split, read_documents
from harness.activations.folders import replacing
from harness.activations.quiet import no_bars
from harness.activations.store import MANIFEST, model_fingerprint
from harness.activations.store_writer import StoreWriter
from harness.activations.tokens import Ids, packed_contexts
from harness.progress import track
from harness.study.source import TextSource, source_error
from harness.study.yaml_file import near

TOKENS_AT_ONCE = 8192  # of one forward pass


class Positions(NamedTuple):
    """The contexts to run [contexts, context], and which of their positions are kept."""

    ids: Ids
    kept: NDArray[np.bool_]


class _Reached(Exception):
    """Raised by the hook: the rest of the forward pass is not needed."""


def capture_activations(source: TextSource, corpus: Path, language_model: Path, out: Path) -> dict[str, Any]:
    """Fill the folder `out` with activations of a local model on both splits; see `ActivationStore`.

    Documents are taken in a seeded order over the whole corpus, packed into contexts, and run once.
    Positions of special tokens (separators and padding) are left out and counted. The rows of a split are
    shuffled over the whole split. Returns the manifest. `out` is replaced as a whole, or left as it was.

    Raises UserError if there is no such model, no such hook, or too little text.
    """
    wanted = source.activations
    with replacing(out, MANIFEST, source) as folder:
        fingerprint = model_fingerprint(language_model)
        model, tokenizer = load_model(language_model)
        module = find_module(source, model)
        positions = {
            "train": _positions(source, corpus, "train", wanted.tokens, tokenizer),
            "held_out": _positions(source, corpus, "held_out", wanted.held_out_tokens, tokenizer),
        }
        counts = {split: int(p.kept.sum()) for split, p in positions.items()}
        width = hidden_states(model, module, torch.from_numpy(positions["train"].ids[:1])).shape[-1]
        writer = StoreWriter(folder, counts, width, wanted.dtype)
        for number, split in enumerate(positions):
            places = np.random.default_rng([wanted.seed, number]).permutation(counts[split])
            for rows in _captured(model, module, positions[split], f"capture {split}"):
                _put(source, writer, split, places[: len(rows)], rows)
                places = places[len(rows) :]
        return writer.finish(
            model=str(language_model),
            model_fingerprint=fingerprint,
            revision=None,
            hook=wanted.hook,
            context=source.language_model.context,
            special_left_out={split: int((~p.kept).sum()) for split, p in positions.items()},
        )


def load_model(folder: Path) -> tuple[Any, Any]:
    """Model (float32, evaluation mode) and tokenizer of a local folder; nothing is downloaded or unpickled."""
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with no_bars():
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **local)
        model.eval()
        return model, AutoTokenizer.from_pretrained(folder, **local)


def find_module(source: TextSource, model: Any) -> torch.nn.Module:
    """The module that `activations.hook` names. Raises UserError with the nearest names."""
    hook = source.activations.hook
    modules: dict[str, torch.nn.Module] = dict(model.named_modules())
    if hook in modules and hook:
        return modules[hook]
    message = f"no module {hook!r} in the model{near(hook, [name for name in modules if name])}"
    raise source_error(source, ("activations", "hook"), message)


@torch.inference_mode()
def hidden_states(model: Any, module: torch.nn.Module, ids: Tensor) -> Tensor:
    """Output [batch, context, width] of `module` on token ids [batch, context]; what comes after does not run."""
    seen: list[Tensor] = []

    def keep(_module: torch.nn.Module, _args: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)
        raise _Reached

    handle = module.register_forward_hook(keep)
    try:
        model(input_ids=ids, use_cache=False)
    except _Reached:
        pass
    finally:
        handle.remove()
    return seen[0]


def _positions(source: TextSource, corpus: Path, split: Split, tokens: int, tokenizer: Any) -> Positions:
    """Contexts with exactly `tokens` positions to keep. Raises UserError if the text has fewer."""
    documents, context = read_documents(corpus, split), source.language_model.context
    ids = packed_contexts(documents, tokenizer, context, tokens, source.activations.seed)
    kept = ~np.isin(ids, tokenizer.all_special_ids)
    if (count := int(kept.sum())) < tokens:
        key = "tokens" if split == "train" else "held_out_tokens"
        message = f"expected at most {count:,}, the tokens of the {split} text, got {tokens:,}"
        raise source_error(source, ("activations", key), message)
    return Positions(ids, kept)


def _captured(
    model: Any, module: torch.nn.Module, positions: Positions, what: str
) -> Iterator[NDArray[np.float32]]:
    """Activations [n, width] of the kept positions, batch by batch, in the order of the text."""
    batch = max(1, TOKENS_AT_ONCE // positions.ids.shape[1])
    starts = range(0, len(positions.ids), batch)
    for start in track(starts, len(starts), what):
        here = slice(start, start + batch)
        states = hidden_states(model, module, torch.from_numpy(positions.ids[here]))
        yield states.numpy()[positions.kept[here]]


def _put(
    source: TextSource, writer: StoreWriter, split: str, places: NDArray[np.int64], rows: NDArray[np.float32]
) -> None:
    try:
        writer.put(split, places, rows)
    except OverflowError as failure:
        message = f"{failure} of the activations; expected float32"
        raise source_error(source, ("activations", "dtype"), message) from None
