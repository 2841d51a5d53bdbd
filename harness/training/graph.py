"""A step on a GPU as one CUDA graph: what it launches is launched at once, without the processor between.

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
    """Takes the work of a step on a batch, from a few times on as a graph: the same kernels, the same bits.

    What changes from step to step must be in tensors of its own, but for what `like` stands for. parameters: those
    whose gradients the work leaves to others. It knows nothing of whose work it is: a graph that hung in a circle
    would be destroyed whenever the garbage collector likes, which spoils another's capture.

    Graphs of several streams can be replayed at once: each has the memory of its stream, of which it is captured.
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

        Where every batch comes in the same tensors they are read there, else copied.
        like: what must be as in the steps before for their graph to be this one's.
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
    """What is launched within on this device becomes a graph, for its current stream.

    On that stream, or one for all graphs of the default stream, on which nothing can be captured: so products of
    graphs that are replayed at once never have one workspace (cuBLAS has one for each stream).
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
    """Within, nothing is collected: a graph that is destroyed while another one is captured spoils it."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def forget_shared_memory() -> None:
    """Share no more memory with the graphs so far. Once they are gone, `torch.cuda.empty_cache` gives it back."""
    _anchor.cache_clear()


@cache
def _anchor(stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """A graph whose memory all of a stream share: one is replayed at a time, and none leaves anything there.

    It is kept, since torch fails where memory of graphs that are all gone is to be shared once more.
    """
    graph = torch.cuda.CUDAGraph()
    with _no_garbage(), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        torch.zeros(1, device=stream.device)
    return graph
