"""What a step on a GPU allocates, counted without one: its tensors have sizes alone, its kernels do nothing.

The code is that of a GPU, but for what needs one: graphs, and what asks whether a tensor is on "cuda".
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from harness.optimizers import muon
from harness.sae import gpu, native, shortlist
from harness.study.recipe import Recipe
from harness.training import cell as cell_module
from harness.training.cell import Cell
from harness.training.metrics import EVALUATION_BATCH, HeldOut, curve_figures

ROUNDED = 512  # bytes, up to a multiple of which torch's allocator goes


class Allocations(TorchDispatchMode):
    """Counts the bytes of tensors that are alive: `live` now, `peak` at most since it was last set."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage) -> None:
        key, size = storage._cdata, -(-storage.nbytes() // ROUNDED) * ROUNDED
        if key not in self._known:
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Fake tensors take the ways of a GPU's."""
    take_the_ways_of_a_gpu(monkeypatch, lambda kernel, grid: lambda *arguments, **options: None)


def take_the_ways_of_a_gpu(monkeypatch: pytest.MonkeyPatch, launch: Callable[..., object]) -> None:
    """launch: in place of Triton's own, which `kernel[grid]` calls."""

    def clip(parameters, limit):  # on a CPU it asks for the norm
        gradients = [p for p in parameters if p.grad is not None]
        norm = get_total_norm([p.grad for p in gradients], foreach=True)
        clip_grads_with_norm_(gradients, limit, norm, foreach=True)

    launched = pytest.importorskip("triton.runtime.jit").KernelInterface
    orthogonalise = muon.orthogonalise
    monkeypatch.setattr(launched, "__getitem__", launch)
    monkeypatch.setattr(gpu, "DEVICES", {"cpu"})
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(shortlist, "has_bfloat16", lambda: False)
    monkeypatch.setattr(cell_module, "clip", clip)
    monkeypatch.setattr(muon, "orthogonalise", lambda matrix: orthogonalise(matrix.bfloat16()).to(matrix.dtype))
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: self)


def step_peak(recipe: Recipe, width: int, target_width: int | None = None) -> int:
    """Bytes at the peak of a step, with a batch that lies there and the place where a graph reads it."""
    with FakeTensorMode(allow_non_fake_inputs=True), Allocations() as counted:
        one = Cell(recipe, width, torch.device("cpu"), target_width=target_width)
        batch = [torch.empty(recipe.batch, size) for size in (width, target_width) if size]
        places = [x.clone() for x in batch]  # as a graph has them
        one.step(*batch)
        counted.peak = counted.live
        one.step(*batch)
        del places
    return counted.peak


def evaluation_peak(recipe: Recipe, width: int, target_width: int | None, monkeypatch) -> int:
    """Bytes at the peak of a point of the curve, besides those of the cell and the held-out tokens."""
    monkeypatch.setattr("harness.training.metrics.reconstruction_figures", lambda *_: {})  # numbers of tensors
    with FakeTensorMode(allow_non_fake_inputs=True), Allocations() as counted:
        one = Cell(recipe, width, torch.device("cpu"), target_width=target_width)
        x, target = (torch.empty(3 * EVALUATION_BATCH, size) for size in (width, target_width or width))
        held_out = HeldOut(x, 1.0, target)
        one.sae.eval()
        counted.peak = before = counted.live
        curve_figures(one.code, held_out)
    return counted.peak - before
