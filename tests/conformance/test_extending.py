"""The example of docs/extending.md, run as it stands there."""

import re
from pathlib import Path

import pytest
import torch

from harness.sae.penalties import PENALTIES
from harness.study.recipe import Recipe
from harness.training import cell as training

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()


def test_the_penalty_of_the_documentation_trains(monkeypatch):
    (example, *_) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(example, names)
    monkeypatch.setitem(PENALTIES, "values", names["value_variance"])

    def variance(weight: float) -> float:
        recipe = Recipe(latents=32, k=4, tokens=3200, batch=64, lr=1e-2, penalty=weight, penalty_on="values")
        one = training.Cell(recipe, 8, torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        for _ in range(recipe.steps):
            one.step(torch.randn(64, 8, generator=generator))
        with torch.no_grad():
            return float(PENALTIES["values"](one.sae, one.sae(torch.randn(512, 8, generator=generator))))

    assert variance(10.0) < 0.5 * variance(0.0)


@pytest.mark.parametrize("path", re.findall(r"`((?:harness|tests)/[\w/.]+)`", PAGE))
def test_what_the_page_names_exists(path):
    assert (Path(__file__).parents[2] / path).exists()
