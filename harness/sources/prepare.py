"""Making what a source needs below data/, by one process at a time."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from harness.activations import massive
from harness.activations.folders import full_disk_as_user_error, read_json
from harness.activations.store import MANIFEST
from harness.files import write_json
from harness.locks import exclusive, is_held, this_process
from harness.sources.source import ACTIVATIONS, Source, Step

HOLDER_WRITES = 0.2  # seconds that who has just taken the lock has to write down who that is


def missing(source: Source, data: Path) -> tuple[Step, ...]:
    """The steps that are still to be made: none where the activations are there."""
    folder = source.folder(data)
    if (folder / ACTIVATIONS).exists():
        return ()
    return tuple(step for step in source.steps() if not (folder / step.name).exists())


def prepare_missing(source: Source, data: Path, results: Path, say: Callable[[str], object]) -> None:
    """Make whatever is missing of a source.

    While another process makes something of this source, this one waits and says so, and then makes what is still
    missing. results: where steps put their figures. say: is told what has been made.
    """
    if missing(source, data):
        with _alone(source, data) as waited_for:
            left = missing(source, data)
            _make(left, source, data, results, say)
            if waited_for and not left:
                say(f"{source.folder(data)}: made meanwhile by {waited_for.process}")


def prepare_step(source: Source, step: Step, data: Path, results: Path, say: Callable[[str], object]) -> None:
    """Make one step again, unless another process has just done this while this one waited for it."""
    out = source.folder(data) / step.name
    before = _state(out)
    with _alone(source, data) as waited_for:
        if waited_for and waited_for.source == _content(source) and _state(out) not in (None, before):
            say(f"{out}: made meanwhile by {waited_for.process}")
        else:
            _make([step], source, data, results, say)


def _make(steps: Sequence[Step], source: Source, data: Path, results: Path, say: Callable[[str], object]) -> None:
    for step in steps:
        made = step.make(source.folder(data))
        if made.metrics is not None:
            write_json(metrics_file(step, results), made.metrics)
        say(made.summary)
        if step.name == ACTIVATIONS:
            manifest = read_json(source.folder(data) / step.name / MANIFEST, "an activation store")
            for line in massive.warnings(manifest):
                say(f"warning: {line}")


def metrics_file(step: Step, results: Path) -> Path:
    """Where a step's figures go, for DVC to compare them with those of other commits."""
    return results / f"{step.name}.json"


class _Holder(NamedTuple):
    """Who holds the lock of a source's folder, and the source that is prepared there."""

    process: str
    source: str


def preparer(source: Source, data: Path) -> str | None:
    """The process that makes something of this source now, or None. Writes nothing."""
    lock = _lock(source, data)
    return _holder(lock).process if is_held(lock) else None


def _lock(source: Source, data: Path) -> Path:
    return source.folder(data) / ".lock"


def _holder(lock: Path) -> _Holder:
    process, _, content = lock.read_text(encoding="utf-8").partition("\n")
    return _Holder(process or "another process", content)


@contextmanager
def _alone(source: Source, data: Path) -> Iterator[_Holder | None]:
    """Hold the lock of the source's folder. Yields the process that this one had to wait for, or None.

    The kernel frees the lock when its holder is gone, so that no process waits for one that was killed.
    """
    lock = _lock(source, data)
    waited_for = None
    with ExitStack() as held:
        if not held.enter_context(exclusive(lock, patience=HOLDER_WRITES)):
            waited_for = _holder(lock)
            line = f"{lock.parent}: waiting for {waited_for.process}, which is preparing it"
            print(line, file=sys.stderr, flush=True)
            held.enter_context(exclusive(lock, patience=math.inf))
        with full_disk_as_user_error(lock):
            lock.write_text(f"{this_process()}\n{_content(source)}", encoding="utf-8")
        yield waited_for


def _content(source: Source) -> str:
    """Tells a source file from another one of the same name."""
    return source.model_dump_json()


def _state(out: Path) -> tuple[int, int] | None:
    """Tells a folder from one that has taken its place."""
    return (out.stat().st_ino, out.stat().st_ctime_ns) if out.exists() else None
