"""The held-out text behind the activations, kept beside them: language models run on it with an SAE in place, and
latents are read on it. numpy only."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from harness.activations.folders import sha256_of
from harness.errors import UserError

FILE = "held_out_text.safetensors"
SHARE, MOST = 16, 16_384  # one of so many held-out tokens, and at most so many
DECISIVE = ("sha256", "model_fingerprint", "reads", "replaces")  # of what a manifest says

Flags = NDArray[np.bool_]


class HeldOutText(NamedTuple):
    """Contexts of a language model [C, S], and which of their positions are kept: those that have activations.

    mask: the attention mask, False at padding; None where there is no padding.
    """

    ids: NDArray[np.int64]
    kept: Flags
    mask: Flags | None = None

    def head(self) -> HeldOutText:
        """The first contexts, up to the one with which they have one in 16 of all kept tokens, or 16,384."""
        so_far = self.kept.sum(1).cumsum()
        wanted = min(-(-int(so_far[-1]) // SHARE), MOST)
        contexts = int(np.searchsorted(so_far, wanted)) + 1
        mask = None if self.mask is None else self.mask[:contexts]
        return HeldOutText(self.ids[:contexts], self.kept[:contexts], mask)


def write_held_out_text(folder: Path, text: HeldOutText, model: str, **about: Any) -> dict[str, Any]:
    """Write the text into a store's folder. Returns the entry `text` of the store's manifest.

    model: the language model's folder, from the store's. about: what else is in `DECISIVE`, the model's
    fingerprint and the two places, `{module, side}`, that an SAE reads and replaces; and the numbers of its
    parameters and of the words in its vocabulary, which decide the memory that it takes. The entry's `tokens` are
    those of the head, on which the model runs with SAEs in place.
    """
    tensors = {name: part for name, part in text._asdict().items() if part is not None}
    save_file({name: np.ascontiguousarray(part) for name, part in tensors.items()}, folder / FILE)
    tokens = int(text.head().kept.sum())
    entry = {"tokens": tokens, "model": model, "sha256": sha256_of([folder / FILE]), **about}
    decisive = {name: entry[name] for name in DECISIVE}
    return {**entry, "fingerprint": hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()}


def read_held_out_text(store: Path, about: dict[str, Any]) -> HeldOutText:
    """What `write_held_out_text` wrote. about: the manifest's entry. Raises UserError if it is something else."""
    file = store / FILE
    try:
        if sha256_of([file]) != about["sha256"]:
            raise UserError(f"{file}: its content is not what was written; make the activations again")
        text = HeldOutText(**load_file(file))
        if int(text.head().kept.sum()) != about["tokens"]:  # then models would run on other tokens than was said
            raise UserError(f"{file}: was written by another version of harness; make the activations again")
        return text
    except (OSError, SafetensorError) as failure:
        raise UserError(f"{file}: expected the held-out text: {failure}") from None


def path_from(store: Path, model: Path) -> str:
    """The model's folder as a store's manifest says it: both may move together."""
    return Path(os.path.relpath(model.resolve(), store.resolve())).as_posix()
