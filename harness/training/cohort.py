"""A cohort: cells that train in lockstep on the same batches, whatever else they differ in."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import partial
from itertools import cycle
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

from harness.training.stream import Batch
from harness.training.streams import forked
from harness.training.trainer import NextBatch

Rows = Callable[[int], Batch]  # step (0-based) -> activations, as they are stored
End = TypeVar("End")
LONGEST_WAIT = 0.2  # seconds without a beat while a batch is waited for


class Stopped(Exception):
    """Training is to end here, and to go on another time."""


class Cohort(Generic[End]):
    """Cells by name; each yields the step whose batch it waits for and is sent a NextBatch, as in `train`.

    ended: called with what a cell returned, as soon as it has. streams: of a GPU, on which cells run that take the
    same step, each always on the same one; without any they run one after the other.
    """

    def __init__(
        self,
        cells: Mapping[str, Generator[int, NextBatch, End]],
        ended: Callable[[str, End], Any] = lambda *_: None,
        streams: Sequence[torch.cuda.Stream] = (),
    ) -> None:
        self._cells = cells
        self._ended = ended
        self._streams = streams
        self._stream_of = dict(zip(cells, cycle(streams), strict=False))
        self.waiting: dict[str, int] = {}  # cell -> step

    def train(
        self,
        read: Rows,
        seconds: float,
        beat: Callable[[], Any] = lambda: None,
        centred: Callable[[Batch], Batch] = lambda rows: rows,
        steps: int | None = None,
        share: float = 1.0,
    ) -> None:
        """Bring all cells to their ends. Every batch is made once; a cell that is further on waits for the others.

        read: gets the rows of a step, a thread of its own those of the next one. seconds: time between two
        checkpoints, of all cells after the same step; or more, so that they take no larger `share` of the time.
        beat: called after every turn, and while a batch is waited for; it raises Stopped to end. That, and what
        `read` raises, is raised in every cell that waits.
        centred: makes of rows what cells train on, in this thread: another that calculates gets threads of its own
        from OpenMP, which take the cores from the step. steps: of the longest cell; nothing is read behind them.
        """
        for name in self._cells:
            with forked(self._streams):  # the first one may open what all of them read
                self._advance(name, self._cells[name].__next__)
        saved, pause = time.monotonic(), seconds
        with Prefetcher(read, steps) as rows:
            while self.waiting:
                step = min(self.waiting.values())
                took: list[float] = []  # of each cell, by its checkpoint
                save = time.monotonic() - saved >= pause
                try:
                    turn = NextBatch(centred(rows(step, beat)), took.append if save else None)
                except Exception as failure:
                    self._interrupt(failure)
                    continue
                self._step_cells(step, turn, beat)
                if save:
                    saved, pause = time.monotonic(), max(seconds, sum(took) * (1 / share - 1))

    def _step_cells(self, step: int, turn: NextBatch, beat: Callable[[], Any]) -> None:
        with forked(self._streams):
            for name in [name for name, at in self.waiting.items() if at == step]:
                self._advance(name, partial(self._cells[name].send, turn))
                try:
                    beat()
                except Stopped as stop:
                    self._interrupt(stop)
                    return

    def _interrupt(self, reason: Exception) -> None:
        for name in list(self.waiting):
            self._advance(name, partial(self._cells[name].throw, reason))

    def _advance(self, name: str, how: Callable[[], int]) -> None:
        stream = self._stream_of.get(name)
        try:
            with nullcontext() if stream is None else torch.cuda.stream(stream):
                self.waiting[name] = how()
        except StopIteration as end:
            if stream is not None:
                stream.synchronize()  # what has been measured may be kept for others
            self.waiting.pop(name, None)
            self._ended(name, end.value)


class Prefetcher:
    """What `read` reads, the next of it by a thread while this one is trained on; use as a context manager."""

    def __init__(self, read: Rows, steps: int | None = None) -> None:
        """`steps`: how many there are, if that is known."""
        self._read = read
        self._steps = steps
        self._thread = ThreadPoolExecutor(1, "read")
        self._ahead: dict[int, Future[Batch]] = {}  # of one step at most

    def __call__(self, step: int, meanwhile: Callable[[], Any] = lambda: None) -> Batch:
        """The rows of `step`. Raises what `read` raised for it. meanwhile: called now and then while it waits."""
        wanted = self._ahead.get(step) or self._thread.submit(self._read, step)
        self._ahead = {}
        if step + 1 != self._steps:
            self._ahead[step + 1] = self._thread.submit(self._read, step + 1)
        while not wait([wanted], LONGEST_WAIT).done:
            meanwhile()
        return wanted.result()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        # What it reads now may take long, where activations are made: nobody waits for that.
        self._thread.shutdown(wait=False, cancel_futures=True)
