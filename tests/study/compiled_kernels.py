"""Compiles the kernels that steps launch, for a GPU that need not be there.

`python -m tests.study.compiled_kernels BACKEND ARCHITECTURE` writes a line of JSON for each kernel: its name, and
the bytes of shared memory that a block of threads takes. With `--all`, it compiles those of every recipe of
test_gpu_memory.py instead of a few. It needs a process of its own: conftest.py has kernels interpreted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction, MockTensor

from harness.study.recipe import Recipe
from tests.study.allocations import evaluation_peak, step_peak, take_the_ways_of_a_gpu
from tests.study.test_gpu_memory import RECIPES, SIZE, WIDTH

THREADS = {"cuda": 32, "hip": 64}  # of a warp
FEW = [
    {},
    {"sparsifier": "jumprelu", "optimizer": "signum"},
    {"sparsifier": "relu", "penalty": 0.1, "precision": "bfloat16"},
    {"k": 16, "decoder_norm": "unit_per_dimension"},
    {"aux_k": 256, "precision": "bfloat16", "optimizer": "muon"},
]


def launches_of(recipes: list[dict]) -> list[Callable[[], object]]:
    """Each compiles the kernel of one launch, of those that differ in more than their numbers."""
    found: dict[tuple, Callable[[], object]] = {}

    def launch(kernel: JITFunction, grid: tuple[int, ...]) -> Callable[..., None]:
        def compiling(*arguments, **options) -> None:
            kinds = [MockTensor(x.dtype) if isinstance(x, torch.Tensor) else x for x in arguments]
            shown = tuple(x.dtype if isinstance(x, MockTensor) else (type(x), x) for x in kinds)
            key = kernel.__module__, kernel.__name__, shown, tuple(sorted(options.items()))
            found.setdefault(key, lambda: kernel.run(*kinds, grid=grid, warmup=True, **options))

        return compiling

    with pytest.MonkeyPatch.context() as patch:
        take_the_ways_of_a_gpu(patch, launch)
        for changes in recipes:
            made = Recipe(**{**SIZE, **changes})
            step_peak(made, WIDTH)
            evaluation_peak(made, WIDTH, None, patch)
    return list(found.values())


def main(backend: str, architecture: str, *options: str) -> None:
    target = GPUTarget(backend, int(architecture) if backend == "cuda" else architecture, THREADS[backend])
    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: target,
            get_current_device=lambda: 0,
            get_current_stream=lambda device: 0,
        )
    )
    torch.version.hip = "6.4" if backend == "hip" else None
    compiled = {}
    for launch in launches_of(RECIPES if "--all" in options else FEW):
        kernel = launch()
        compiled[id(kernel)] = kernel
    for kernel in compiled.values():
        print(json.dumps([kernel.metadata.name, kernel.metadata.shared]))


if __name__ == "__main__":
    main(*sys.argv[1:])
