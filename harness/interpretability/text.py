"""The held-out text that latents are read on, and the language model's activations there.

Shape letters: C contexts, S positions of a context, T kept positions of all contexts, which are those that have
activations, in the order of the text; I width of what an SAE reads, D of what it reconstructs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.activations.held_out_text import HeldOutText
from harness.activations.hook import Hook, hidden_states
from harness.activations.store import AGAIN, ActivationStore
from harness.errors import UserError
from harness.evaluation.language_model import OpenedModel, open_model_of

TOKENS_AT_ONCE = 8192  # per forward pass


@dataclass(frozen=True)
class Text:
    """Held-out contexts with their activations, in the language model's own units; all on the CPU.

    rows: of each position the row of its activations, -1 where it is not kept.
    """

    ids: NDArray[np.int64]  # [C, S]
    rows: NDArray[np.int64]  # [C, S]
    x: Tensor  # [T, I], float32
    target: Tensor  # [T, D], float32: `x` itself, but for a transcoder
    opened: OpenedModel

    @property
    def tokenizer(self) -> Any:
        return self.opened.tokenizer

    def __len__(self) -> int:
        """T, the number of tokens."""
        return len(self.x)


@lru_cache(maxsize=1)
def read_text(store: Path, device: str, tokens: int) -> Text:
    """The first contexts of a store's held-out text with at least so many kept tokens, or all of it.

    One pass of the language model; kept as long as no other text is asked for. Raises UserError where the store
    has no text, or not all of it.
    """
    opened_store = ActivationStore.open(store)
    if opened_store.text_fingerprint is None:
        raise UserError(f"{store}: expected activations of a text, to interpret latents on it")
    opened = open_model_of(store, torch.device(device))
    if int(opened.text.kept.sum()) != opened_store.tokens("held_out"):
        raise UserError(f"{store}: expected all of its held-out text, found the head; {AGAIN}")
    text = _first(opened.text, tokens)
    x, target = _activations(opened, text, device)
    rows = np.where(text.kept, text.kept.ravel().cumsum().reshape(text.kept.shape) - 1, -1)
    return Text(text.ids, rows, x, target, opened)


def _first(text: HeldOutText, tokens: int) -> HeldOutText:
    """The first contexts that have so many kept tokens together."""
    contexts = int(np.searchsorted(text.kept.sum(1).cumsum(), tokens)) + 1
    mask = None if text.mask is None else text.mask[:contexts]
    return HeldOutText(text.ids[:contexts], text.kept[:contexts], mask)


def _activations(opened: OpenedModel, text: HeldOutText, device: str) -> tuple[Tensor, Tensor]:
    """What the SAE reads [T, I] and what it is to reconstruct [T, D] at the kept positions."""
    places = dict.fromkeys((opened.reads, opened.replaces))  # one place, but for a transcoder
    hooks = [Hook(place.module, place.side) for place in places]
    read: list[list[Tensor]] = [[] for _ in hooks]
    size = max(1, TOKENS_AT_ONCE // text.ids.shape[1])
    for start in range(0, len(text.ids), size):
        here = slice(start, start + size)
        ids, kept = (torch.from_numpy(part[here]) for part in (text.ids, text.kept))
        mask = None if text.mask is None else torch.from_numpy(text.mask[here]).to(device)
        for found, states in zip(read, hidden_states(opened.model, hooks, ids.to(device), mask), strict=True):
            found.append(states.cpu()[kept].float())
    x, *targets = (torch.cat(parts) for parts in read)
    return x, targets[0] if targets else x
