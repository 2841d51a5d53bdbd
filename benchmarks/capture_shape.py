"""What `benchmarks.capture` captures, in sizes that peers' environments read too."""

from __future__ import annotations

import time
from collections.abc import Callable

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY = 6, 384, 6, 64, 8_000
WINDOW = 16_384  # tokens of a window, and of peers' buffers
PASS = 128  # contexts of a forward pass
BATCH = 4_096  # tokens


def cpu_seconds(run: Callable[[], object]) -> float:
    """Of all threads of this process: other processes on the machine hardly change them."""
    before = time.process_time()
    run()
    return time.process_time() - before
