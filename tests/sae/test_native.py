"""The kernels are compiled once, and nothing needs them to be."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from harness.sae.topk import top_k

SAYS = "from harness.sae import native; print(native.library() is not None)"


def compiled(**variables: str) -> bool:
    """Whether a process with these environment variables has the kernels."""
    environment = {**os.environ, **variables}
    said = subprocess.run(
        [sys.executable, "-c", SAYS], env=environment, capture_output=True, text=True, check=True
    )
    return said.stdout.strip() == "True"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
def test_they_are_compiled_once(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", SAYS], env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
        for _ in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    (library,) = (tmp_path / "harness").iterdir()
    made = library.stat().st_mtime_ns
    assert compiled(XDG_CACHE_HOME=str(tmp_path))
    assert library.stat().st_mtime_ns == made


@pytest.mark.parametrize("compiler", ["none-such", "false"])
def test_without_a_compiler_there_are_none(tmp_path, compiler):
    assert not compiled(XDG_CACHE_HOME=str(tmp_path), CXX=compiler)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler")
def test_where_they_cannot_be_kept_each_process_makes_its_own(tmp_path):
    assert compiled(XDG_CACHE_HOME="/proc/none", TMPDIR=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_they_can_be_left_out():
    assert not compiled(HARNESS_NATIVE="0")


def test_more_entries_than_there_are_is_an_error_and_not_a_crash():
    with pytest.raises(RuntimeError, match="out of range"):
        top_k(torch.zeros(2, 5), 6)
