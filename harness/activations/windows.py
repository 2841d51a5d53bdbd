"""Makes windows of activations: the same bits whoever makes them, in any order, to be stored or streamed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.activations.contexts import ContextReader, WindowOfContexts
from harness.activations.hook import check_read, hidden_states, hooks_at
from harness.activations.model_files import NAME
from harness.activations.pretrained_model import check_context, open_model
from harness.activations.store_writer import Unfit
from harness.activations.stream_file import StreamFile
from harness.activations.text import text_fingerprint
from harness.errors import UserError
from harness.fingerprint import code_fingerprint
from harness.sae.products import SETTING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.activations.documents import Split

CODE = ("harness.activations.windows:WindowMaker.window",)  # roots of what decides a window's bits
CUT = ("harness.backoff", "harness.errors", "harness.files", "harness.fingerprint", "harness.yaml_file")
POSITIONS = "positions.jsonl"  # where windows start in the text, as far as they were read
TRIED = 2  # contexts that the hooks are tried on


def code_of_windows() -> str:
    """Fingerprint of the code that decides the bits of windows."""
    return code_fingerprint(CODE, CUT)


class Pass(NamedTuple):
    """What one forward pass reads: token ids [batch, context], and the places that are kept of them all."""

    contexts: slice
    ids: Tensor
    mask: Tensor | None  # on the CPU
    kept: Tensor


class WindowMaker:
    """A pretrained model beside its text. Opened once per process."""

    def __init__(self, spec: StreamFile, device: torch.device, positions: Path) -> None:
        """positions: a folder that remembers where windows start in the text. See `open` for what is raised."""
        self.spec, self.device, self._positions = spec, device, positions
        if text_fingerprint(spec.text) != spec.text_fingerprint:
            raise spec.error(("text",), "expected the text that the activations were begun with, it has changed")
        self.model, self.tokenizer = open_model(spec.model, spec.model_fingerprint, device, spec.error)
        check_context(self.model, spec.contexts, spec.error)
        self.hooks = hooks_at(spec.places, self.model, spec.error)
        self._readers: dict[Split, ContextReader] = {}
        self._embeddings = self.model.get_input_embeddings().weight
        self._tried = False

    @classmethod
    def open(cls, store: Path, device: torch.device) -> WindowMaker:
        """From the `stream.json` in a store's folder.

        Raises UserError if the model, the text or the code is another one now, or if they do not fit each other.
        """
        spec = StreamFile.read(store)
        if spec.code != code_of_windows():
            again = f"make them again: harness prepare {spec.source} --step activations"
            raise UserError(f"{store}: streamed activations begun with other code; {again}")
        return cls(spec, device, store.parent)

    def reader(self, split: Split) -> ContextReader:
        """The contexts of a split."""
        if split not in self._readers:
            spec, file = self.spec, self._positions / POSITIONS
            self._readers[split] = ContextReader(
                spec.text, self.tokenizer, spec.contexts, split, positions=file, error=spec.error
            )
        return self._readers[split]

    def window(self, split: Split, index: int) -> list[Tensor]:
        """Activations [tokens, width] of window `index` in the store's dtype, and targets if there are any.

        On the device, in the order of the text; on a GPU nothing of them goes through the host, which waits once
        at the end. Raises IndexError where there is no such window, UserError where the text is too short or a
        value cannot be kept.
        """
        contexts = self.reader(split).window(index)
        self._check_ids(contexts)
        self._try_hooks(contexts)
        tokens, dtype = int(contexts.kept.sum()), getattr(torch, self.spec.dtype)
        kept = [_room(tokens, place.width, dtype, self.device) for place in self.spec.places]
        largest: list[Tensor] = []  # of each pass, not finite where one of its values is not
        done = 0
        for one in self._passes(contexts):
            here = slice(done, done := done + len(one.kept))
            for rows, read in zip(kept, self._rows(one), strict=True):
                rows[here].copy_(read, non_blocking=True)
                largest.append(torch.linalg.vector_norm(rows[here], math.inf))
        if largest and not bool(torch.isfinite(torch.stack(largest)).all()):  # which waits for a GPU
            raise self._unfit(contexts, split, index)
        return kept

    def _passes(self, contexts: WindowOfContexts) -> Iterator[Pass]:
        """The forward passes of a window: always the same contexts together."""
        ids = self._sent(contexts.ids)
        places = self._sent(np.flatnonzero(contexts.kept))
        ends = np.cumsum(contexts.kept.sum(1))  # of each context, among the places
        size, length = self.spec.contexts_per_pass, contexts.ids.shape[1]
        for start in range(0, len(ids), size):
            here = slice(start, start + size)
            mask = None if contexts.mask is None else torch.from_numpy(contexts.mask[here])
            padded = mask is not None and not bool(mask.all())
            kept = places[ends[start - 1] if start else 0 : ends[here][-1]] - start * length
            yield Pass(here, ids[here], mask if padded else None, kept)

    def _sent(self, numbers: NDArray[np.int64]) -> Tensor:
        """Numbers of a whole window where the model's first layer is, sent while the host goes on."""
        at = self._embeddings.device
        if at.type == "meta":  # accelerate brings the weights when they are used
            at = self.device
        there = torch.from_numpy(numbers)
        return there.pin_memory().to(at, non_blocking=True) if at.type == "cuda" else there.to(at)

    @torch.inference_mode()
    def _rows(self, one: Pass) -> list[Tensor]:
        """What the hooks read at the kept positions [kept, width]."""
        with SETTING:  # cells in tf32, which step meanwhile, change it for a moment
            read = hidden_states(self.model, self.hooks, one.ids, one.mask)
        return [states.flatten(0, 1).index_select(0, one.kept.to(states.device)) for states in read]

    def _try_hooks(self, contexts: WindowOfContexts) -> None:
        """Raise UserError if a hook reads anything but activations of the width that the source file says."""
        if self._tried:
            return
        ids = self._sent(contexts.ids[:TRIED])
        check_read(self.spec.places, self.hooks, hidden_states(self.model, self.hooks, ids), ids, self.spec.error)
        self._tried = True

    def _check_ids(self, contexts: WindowOfContexts) -> None:
        largest, embeddings = int(contexts.ids.max(initial=0)), len(self._embeddings)
        if largest >= embeddings:
            message = (
                f"expected a model with its own tokenizer: this one makes the token id {largest}, "
                f"the model has embeddings for {embeddings:,}"
            )
            raise self.spec.error(NAME, message)

    def _unfit(self, contexts: WindowOfContexts, split: Split, index: int) -> Exception:
        """What to say about the first value of a window that cannot be kept."""
        for one in self._passes(contexts):
            for place, read in zip(self.spec.places, self._rows(one), strict=True):
                rows = read.float().cpu()
                bad = ~torch.isfinite(rows.to(getattr(torch, self.spec.dtype)))
                if not bool(bad.any()):
                    continue
                row, dimension = (int(number) for number in bad.nonzero()[0])
                context, position = divmod(int(one.kept[row]), one.ids.shape[1])
                token = self.tokenizer.decode([int(one.ids[context, position])])
                value = float(rows[row, dimension])
                where = (
                    f"{split}, token {token!r} at position {position} of context {one.contexts.start + context} "
                    f"of window {index}, dimension {dimension} of {place.hook}"
                )
                return self._cannot_keep(value, f"{where}: {Unfit(row, value, self.spec.dtype)}")
        raise AssertionError("a pass that is repeated gives other values")

    def _cannot_keep(self, value: float, message: str) -> Exception:
        if math.isfinite(value):
            return self.spec.error(("activations", "dtype"), message)
        if self.model.dtype == torch.float16:
            return self.spec.error(("model", "dtype"), f"{message}; expected bfloat16 or float32")
        return self.spec.error(("activations", "hook"), message)


def _room(tokens: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Room for a window [tokens, width] on the device; on a CPU, pages of its own.

    Those go back to the kernel with the window. From the C library's heap, which workers keep, each window would
    leave a hole of its own size, and other allocations would settle in it.
    """
    if device.type != "cpu":
        return torch.empty(tokens, width, dtype=dtype, device=device)
    pages = mmap(-1, max(1, tokens * width * dtype.itemsize))
    return torch.frombuffer(pages, dtype=dtype, count=tokens * width).view(tokens, width)
