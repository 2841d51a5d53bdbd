"""Captures a language model's activations on the corpus into an activation store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness.activations.documents import Split, read_documents
from harness.activations.folders import replacing
from harness.activations.held_out_text import HeldOutText, path_from, write_held_out_text
from harness.activations.hook import Hook, check_hooks, check_model, find_hooks, hidden_states
from harness.activations.pretrained_model import load_model
from harness.activations.store import MANIFEST, model_fingerprint
from harness.activations.store_writer import StoreWriter, Unfit
from harness.activations.tokens import Ids, packed_contexts
from harness.progress import track

if TYPE_CHECKING:
    from harness.sources.docstrings import Docstrings

TOKENS_AT_ONCE = 8192  # per forward pass


class Positions(NamedTuple):
    """Contexts to run [contexts, context], and which of their positions are kept."""

    ids: Ids
    kept: NDArray[np.bool_]

    def where(self, row: int, tokenizer: Any) -> str:
        """The kept position number `row`, in words."""
        context, position = (int(index) for index in np.argwhere(self.kept)[row])
        token = tokenizer.decode([int(self.ids[context, position])])
        return f"token {token!r} at position {position} of context {context}"


def capture_activations(source: Docstrings, corpus: Path, language_model: Path, out: Path) -> dict[str, Any]:
    """Fill the folder `out` with activations of a local model on both splits; see `ActivationStore`.

    A source with a target gets a store of inputs and targets, both read in the same pass.

    Documents are taken in a seeded order over the whole corpus, packed into contexts, and run once.
    Positions of special tokens (separators and padding) are left out and counted. The rows of a split are
    shuffled over the whole split. Returns the manifest. `out` is replaced as a whole, or left as it was.

    Raises UserError if there is no such model or hook, if it has other sizes than the source file says, if a
    value is not finite, or if there is too little text.
    """
    wanted = source.activations
    with replacing(out, MANIFEST) as folder:
        fingerprint = model_fingerprint(language_model)
        model, tokenizer = load_model(language_model)
        check_model(source, language_model, model, tokenizer)
        hooks = find_hooks(source, model)
        positions = {
            "train": _positions(source, corpus, "train", wanted.tokens, tokenizer),
            "held_out": _positions(source, corpus, "held_out", wanted.held_out_tokens, tokenizer),
        }
        counts = {split: int(p.kept.sum()) for split, p in positions.items()}
        check_hooks(source, model, hooks, torch.from_numpy(positions["train"].ids[:2]))
        stored = source.stored
        writer = StoreWriter(folder, counts, stored.width, wanted.dtype, target_width=stored.target_width)
        writers = [writer, *([writer.targets] if writer.targets else [])]
        names = [stored.hook, stored.target_hook][: len(writers)]
        for number, split in enumerate(positions):
            places = np.random.default_rng([wanted.seed, number]).permutation(counts[split])
            done = 0
            for read in _captured(model, hooks, positions[split], f"capture {split}"):
                tokens = len(read[0])
                for one, rows, hook in zip(writers, read, names, strict=True):
                    try:
                        one.put(split, places[done : done + tokens], rows)
                    except Unfit as failure:
                        where = f"{split}, {positions[split].where(done + failure.row, tokenizer)}, at {hook}"
                        raise source.error(("activations", "dtype"), f"{where}: {failure}") from None
                done += tokens
        return writer.finish(
            model=str(language_model),
            model_fingerprint=fingerprint,
            revision=None,
            hook=stored.hook,
            target_hook=stored.target_hook,
            context=source.language_model.context,
            text=_write_text(source, folder, positions["held_out"], language_model, fingerprint, model),
            seed=wanted.seed,
            special_left_out={split: int((~p.kept).sum()) for split, p in positions.items()},
        )


def _write_text(
    source: Docstrings, folder: Path, positions: Positions, language_model: Path, fingerprint: str, model: Any
) -> dict[str, Any]:
    """Keep held-out contexts with the activations, to measure on them what SAEs do to the language model."""
    reads = source.activations
    places = {"reads": reads, "replaces": reads.target or reads}
    return write_held_out_text(
        folder,
        HeldOutText(*positions),
        model=path_from(folder, language_model),
        model_fingerprint=fingerprint,
        parameters=model.num_parameters(),
        vocabulary=model.config.vocab_size,
        **{name: {"module": place.hook, "side": place.side} for name, place in places.items()},
    )


def _positions(source: Docstrings, corpus: Path, split: Split, tokens: int, tokenizer: Any) -> Positions:
    """Contexts with exactly `tokens` positions to keep. Raises UserError if the text has fewer."""
    documents, context = read_documents(corpus, split), source.language_model.context
    ids = packed_contexts(documents, tokenizer, context, tokens, source.activations.seed)
    kept = ~np.isin(ids, tokenizer.all_special_ids)
    if (count := int(kept.sum())) < tokens:
        key = "tokens" if split == "train" else "held_out_tokens"
        message = f"expected at most {count:,}, the tokens of the {split} text, got {tokens:,}"
        raise source.error(("activations", key), message)
    return Positions(ids, kept)


def _captured(
    model: Any, hooks: Sequence[Hook], positions: Positions, what: str
) -> Iterator[list[NDArray[np.float32]]]:
    """Activations [n, width] of the kept positions at each hook, batch by batch, in the order of the text."""
    batch = max(1, TOKENS_AT_ONCE // positions.ids.shape[1])
    starts = range(0, len(positions.ids), batch)
    for start in track(starts, len(starts), what):
        here = slice(start, start + batch)
        read = hidden_states(model, hooks, torch.from_numpy(positions.ids[here]))
        yield [states.numpy()[positions.kept[here]] for states in read]
