"""A contender in a process of its own: `python -m benchmarks.contender NAME SHAPE-AS-JSON THREADS`.

Says `ready` once it has been built and has taken its first steps; then each line on standard input is a number of
steps to take, answered by a line of JSON: milliseconds of each, and the most memory so far.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from pathlib import Path

import torch

from benchmarks.contenders import CONTENDERS
from benchmarks.shape import Batches, Shape, activations

FIRST = 2  # untimed steps: optimizers make their state, the allocator gets its memory


def memory(name: str) -> int:
    """`VmRSS` (now) or `VmHWM` (at most so far) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def forget() -> None:
    """Give memory that is free back to the kernel, and let the peak be what is held now."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def main(name: str, shape: Shape, threads: int) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    batch = Batches(activations(shape.width), shape.batch)
    forget()
    before = memory("VmRSS")
    step = CONTENDERS[name](shape)
    for _ in range(FIRST):
        step(batch())
    print("ready", file=answers)
    for line in sys.stdin:
        step(batch())  # others have had the caches meanwhile
        times = []
        for _ in range(int(line)):
            x = batch()
            start = time.perf_counter()
            step(x)
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({"ms": times, "bytes": memory("VmHWM") - before}), file=answers)


if __name__ == "__main__":
    main(sys.argv[1], Shape(**json.loads(sys.argv[2])), int(sys.argv[3]))
