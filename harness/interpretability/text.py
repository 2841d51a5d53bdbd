"""The held-out text that latents are read on, and the language model's activations there.

Shape letters: C contexts, S positions of a context, T kept positions of all contexts, which are those that have
activations, in the order of the text; I width of what an SAE reads, D of what it reconstructs.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.activations.folders import full_disk_as_user_error
from harness.activations.held_out_text import HeldOutText
from harness.activations.hook import Hook, hidden_states
from harness.activations.store import AGAIN, ActivationStore
from harness.errors import UserError
from harness.evaluation.language_model import OpenedModel, open_model_of

TOKENS_AT_ONCE = 8192  # per forward pass


@dataclass(frozen=True)
class Text:
    """Held-out contexts with their activations, in the language model's own units; all on the CPU.

    rows: of each position the row of its activations, -1 where it is not kept. mask: False at padding; None where
    there is none.
    """

    ids: NDArray[np.int64]  # [C, S]
    rows: NDArray[np.int64]  # [C, S]
    x: Tensor  # [T, I], float32
    target: Tensor  # [T, D], float32: `x` itself, but for a transcoder
    opened: OpenedModel
    mask: NDArray[np.bool_] | None = None  # [C, S]

    @property
    def tokenizer(self) -> Any:
        return self.opened.tokenizer

    def __len__(self) -> int:
        """T, the number of tokens."""
        return len(self.x)


@lru_cache(maxsize=1)
def read_text(store: Path, device: str, tokens: int) -> Text:
    """Contexts of a store's held-out text with about so many kept tokens, evenly spaced over it; or all of it.

    One pass of the language model; kept as long as no other text is asked for. The activations are in a temporary
    file that is mapped, so that they need not fit into memory; it is gone when they are.
    Raises UserError where the store has no text, or not all of it, or where there is no room for the file.
    """
    opened_store = ActivationStore.open(store)
    if opened_store.text_fingerprint is None:
        raise UserError(f"{store}: expected activations of a text, to interpret latents on it")
    opened = open_model_of(store, torch.device(device))
    if int(opened.text.kept.sum()) != opened_store.tokens("held_out"):
        raise UserError(f"{store}: expected all of its held-out text, found the head; {AGAIN}")
    text = _spaced(opened.text, tokens)
    x, target = _activations(opened, text, device)
    rows = np.where(text.kept, text.kept.ravel().cumsum().reshape(text.kept.shape) - 1, -1)
    return Text(text.ids, rows, x, target, opened, text.mask)


def _spaced(text: HeldOutText, tokens: int) -> HeldOutText:
    """Contexts that have about so many kept tokens together.

    Evenly spaced, since the first ones of a file may be of one kind.
    """
    contexts = len(text.ids)
    wanted = min(contexts, -(-contexts * tokens // max(1, int(text.kept.sum()))))
    chosen = np.arange(wanted) * contexts // wanted
    mask = None if text.mask is None else text.mask[chosen]
    return HeldOutText(text.ids[chosen], text.kept[chosen], mask)


def _activations(opened: OpenedModel, text: HeldOutText, device: str) -> tuple[Tensor, Tensor]:
    """What the SAE reads [T, I] and what it is to reconstruct [T, D] at the kept positions."""
    places = dict.fromkeys((opened.reads, opened.replaces))  # one place, but for a transcoder
    hooks = [Hook(place.module, place.side) for place in places]
    size = max(1, TOKENS_AT_ONCE // text.ids.shape[1])
    with full_disk_as_user_error(Path(gettempdir())), ExitStack() as stack:
        files = [MappedRows(stack.enter_context(TemporaryFile())) for _ in hooks]
        for start in range(0, len(text.ids), size):
            here = slice(start, start + size)
            ids, kept = (torch.from_numpy(part[here]) for part in (text.ids, text.kept))
            mask = None if text.mask is None else torch.from_numpy(text.mask[here])
            for file, states in zip(files, hidden_states(opened.model, hooks, ids.to(device), mask), strict=True):
                file.write(states.cpu()[kept].float())
        x, *targets = (file.rows() for file in files)
    return x, targets[0] if targets else x


class MappedRows:
    """Rows that are written to a file one after another, then read as one tensor without reading them all."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._width = 0

    def write(self, rows: Tensor) -> None:
        """Rows [n, width], float32, of the same width as those before."""
        self._width = rows.shape[1]
        self._file.write(rows.contiguous().numpy().data)

    def rows(self) -> Tensor:
        """All of them [T, width]. Nothing that is written into the tensor gets into the file."""
        self._file.flush()
        mapped = np.memmap(self._file, np.float32, mode="c")
        return torch.from_numpy(mapped.reshape(-1, self._width))
