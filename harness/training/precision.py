"""Products in tf32: a GPU rounds float32 matrices to 10 bits on their way into tensor cores, and sums in float32.

What comes out is float32 to everybody else, so the active latents' values are as rounded as the product they were
selected from. Unlike autocast, which is the forward pass's alone, this is a setting of the whole process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from harness.sae.products import SETTING


@contextmanager
def float32_products(precision: str, device: torch.device) -> Iterator[None]:
    """Within, float32 products on `device` are taken in tf32 if a recipe has that precision and this is a GPU.

    After it the process is as it was, whatever happened within: other cells, and evaluation, stay float32. It
    holds for all threads, and has to: backward passes on a GPU run in one of their own. A language model that
    makes activations in another thread waits meanwhile (`SETTING`).
    """
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    if precision != "tf32" or device.type != "cuda" or before == "tf32":
        yield
        return
    # torch refuses to read its older names (allow_tf32, float32_matmul_precision) while this one contradicts them.
    # We never write those, so they are right again, and readable, once this one is set back.
    with SETTING:
        settings.fp32_precision = "tf32"
        try:
            yield
        finally:
            settings.fp32_precision = before
