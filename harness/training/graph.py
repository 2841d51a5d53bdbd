"""A step on a GPU as one CUDA graph: all its kernels are launched at once, instead of one by one by the processor.

Shape letters: B tokens, D activation width.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

FIRST = 3  # steps that are taken one by one, since kernels are compiled and optimizers make their state in them


class Graph:
    """Does the work of a step on a batch; after a few steps as a graph, with the same kernels and the same bits.

    The work may read what changes from step to step only from tensors that stay in their place, except for what
    `like` names. parameters: those whose gradients are still needed after the work. The graph holds no reference
    to the owner of the work: in a reference cycle it would be destroyed whenever the garbage collector runs, which
    spoils the capture of another graph.

    Graphs of several streams can be replayed at the same time: each uses the memory of the stream that it was
    captured for.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.forget()

    def forget(self) -> None:
        """Start again: tensors that the work reads were replaced."""
        self._like: Hashable = None
        self._taken = 0
        self._batch: Sequence[Tensor] = ()  # of the step before; where the graph reads it
        self._copies = False  # whether that is a place of its own
        self._graph: torch.cuda.CUDAGraph | None = None
        self._gradients: Sequence[Tensor | None] = ()  # where it leaves them

    def __call__(self, work: Callable[..., Any], batch: Sequence[Tensor], like: Hashable) -> None:
        """Take one step on the tensors of a batch, each [B, D].

        Batches that always come in the same tensors are read there; others are copied.
        like: the graph of earlier steps is used only if this is equal to theirs.
        """
        if like != self._like:
            self.forget()
            self._like = like
        if self._graph is None and self._taken < FIRST:
            self._taken += 1
            self._batch = batch
            work(*batch)
            return
        if not self._copies and not all(map(is_, self._batch, batch)):
            self._batch, self._copies, self._graph = [x.clone() for x in batch], True, None
        if self._graph is None:
            self._graph = self._captured(work)
            self._gradients = [p.grad for p in self._parameters]
        if self._copies:
            for place, x in zip(self._batch, batch, strict=True):
                place.copy_(x)
        self._graph.replay()
        for p, gradient in zip(self._parameters, self._gradients, strict=True):
            p.grad = gradient

    def _captured(self, work: Callable[..., Any]) -> torch.cuda.CUDAGraph:
        with _capturing(self._batch[0].device) as graph:
            work(*self._batch)
        return graph


@contextmanager
def _capturing(device: torch.device) -> Iterator[torch.cuda.CUDAGraph]:
    """Capture what is launched on this device within the block as a graph for the current stream.

    It is captured on that stream, so that graphs which are replayed at the same time never share a workspace of
    cuBLAS, which has one per stream. Nothing can be captured on the default stream: its graphs share another one.
    """
    stream = torch.cuda.current_stream(device)
    if stream == torch.cuda.default_stream(device):
        stream = _beside_default(device)
    pool, graph = _anchor(stream).pool(), torch.cuda.CUDAGraph()
    # The thread that reads ahead goes on meanwhile.
    with _no_garbage(), torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        yield graph


@cache
def _beside_default(device: torch.device) -> torch.cuda.Stream:
    """torch would take a stream of the current device, which need not be this one, and capture nothing."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Collect no garbage within the block: destroying a graph while another one is captured spoils the capture."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def forget_shared_memory() -> None:
    """Give later graphs new memory. When the earlier graphs are gone, `torch.cuda.empty_cache` frees theirs."""
    _anchor.cache_clear()


@cache
def _anchor(stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """A graph whose memory pool all graphs of a stream share: they run one at a time and leave nothing there.

    It is kept, since torch fails if a pool is used again whose graphs are all gone.
    """
    graph = torch.cuda.CUDAGraph()
    with _no_garbage(), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        torch.zeros(1, device=stream.device)
    return graph
