"""CUDA streams on which cells of a cohort step at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch


@cache
def streams_of(device: torch.device, count: int) -> Sequence[torch.cuda.Stream]:
    """So many on a GPU, always the same ones, whose graphs' memory is kept; none for one cell, or on a CPU."""
    if device.type != "cuda" or count < 2:
        return ()
    return [torch.cuda.Stream(device) for _ in range(count)]  # type: ignore[no-untyped-call]


@contextmanager
def forked(streams: Sequence[torch.cuda.Stream]) -> Iterator[None]:
    """Within, their kernels run at once, behind those of the current stream; whose next ones wait for them all."""
    if not streams:
        yield
        return
    current = torch.cuda.current_stream(streams[0].device)
    for stream in streams:
        stream.wait_stream(current)
    try:
        yield
    finally:
        for stream in streams:
            current.wait_stream(stream)
