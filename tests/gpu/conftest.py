"""Whole sweeps, captures and exports on a GPU: `make gpu-tests`; with `ON=cpu` the same tests on a CPU."""

from pathlib import Path

import pytest
import torch

from tests.gpu.commands import ON

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="no GPU")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if ON == "cuda" and not torch.cuda.is_available():
                item.add_marker(missing)
