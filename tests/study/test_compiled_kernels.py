"""Triton compiles the kernels for GPUs that are not there, and they fit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.sae import gpu

pytest.importorskip("triton", reason="Triton is not installed: the kernels for GPUs are not tested")

# Kibibytes of shared memory that a block can have (NVIDIA's CUDA C++ Programming Guide, "Compute Capabilities").
ROOM = {"80": 163, "86": 99, "89": 99, "90": 227, "100": 227, "120": 99}


def compiled(cache: Path, *arguments: str) -> list[tuple[str, int]]:
    """Name and bytes of shared memory of each kernel."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.study.compiled_kernels", *arguments],
        env=environment | {"TRITON_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [tuple(json.loads(line)) for line in result.stdout.splitlines()]


def launched() -> set[str]:
    """The kernels that some module launches, rather than other kernels call."""
    text = "".join(path.read_text() for path in Path(gpu.__file__).parent.glob("*.py"))
    return set(re.findall(r"@triton\.jit\ndef (\w+)", text)) & set(re.findall(r"\.(\w+)\[", text))


def test_all_kernels_compile_for_an_h100_and_fit(tmp_path):
    kernels = compiled(tmp_path, "cuda", "90")
    assert {name for name, _ in kernels} >= launched()
    assert max(shared for _, shared in kernels) <= 1024 * ROOM["90"]


@pytest.mark.chaos
@pytest.mark.parametrize("architecture", ROOM)
def test_those_of_every_recipe_do_on_other_gpus(tmp_path, architecture):
    kernels = compiled(tmp_path, "cuda", architecture, "--all")
    assert max(shared for _, shared in kernels) <= 1024 * ROOM[architecture]


@pytest.mark.chaos
def test_those_of_every_recipe_do_on_an_mi300(tmp_path):
    assert compiled(tmp_path, "hip", "gfx942", "--all")
