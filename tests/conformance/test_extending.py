"""The examples and the table of docs/extending.md, as they stand there."""

import re
from pathlib import Path

import pytest
import torch

from harness.sae import penalties
from harness.sources.kinds import KINDS
from harness.study.catalogue import ARCHITECTURES, INPUTS, OPTIMIZERS, PENALTIES, SPARSIFIERS, OptimizerSpec
from harness.study.catalogue.terms import penalty
from harness.study.recipe import Recipe
from harness.training import cell as training
from harness.training import optimizers

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FIELDS = {
    "optimizer": OPTIMIZERS,
    "sparsifier": SPARSIFIERS,
    "inputs": INPUTS,
    "penalty_on": PENALTIES,
    "layers": ARCHITECTURES,
}


def test_the_penalty_of_the_documentation_trains(monkeypatch):
    code, entry, *_ = EXAMPLES
    names: dict = {}
    exec(code, names)
    monkeypatch.setattr(penalties, "value_variance", names["value_variance"], raising=False)
    monkeypatch.setitem(PENALTIES, "values", eval(entry, {"penalty": penalty}))

    def variance(weight: float) -> float:
        recipe = Recipe(latents=32, k=4, tokens=3200, batch=64, lr=1e-2, penalty=weight, penalty_on="values")
        one = training.Cell(recipe, 8, torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        for _ in range(recipe.steps):
            one.step(torch.randn(64, 8, generator=generator))
        with torch.no_grad():
            return float(names["value_variance"](one.sae, one.sae(torch.randn(512, 8, generator=generator))))

    assert variance(10.0) < 0.5 * variance(0.0)


def test_the_optimizer_of_the_documentation_trains(monkeypatch):
    *_, code, entry = EXAMPLES
    exec(code, vars(optimizers))
    monkeypatch.setitem(OPTIMIZERS, "lion_on_matrices", eval(entry, {"OptimizerSpec": OptimizerSpec}))
    recipe = Recipe(latents=32, k=4, tokens=640, batch=64, optimizer="lion_on_matrices")
    one = training.Cell(recipe, 8, torch.device("cpu"))
    before = one.sae.coders[0].encoder.detach().clone()
    one.step(torch.randn(64, 8))
    assert not torch.equal(before, one.sae.coders[0].encoder)
    del optimizers.lion_on_matrices


def test_the_page_lists_the_catalogue():
    rows = []
    for field, specs in FIELDS.items():
        for name, spec in specs.items():
            rate = getattr(spec, "default_lr", None)
            rows.append(f"| `{field}` | `{name}` | {spec.doc} | {f'{rate:g}' if rate else ''} |")
    table = "\n".join(rows)
    assert f"|---|\n{table}\n\n" in PAGE, f"expected in docs/extending.md:\n{table}"


def test_the_page_leaves_out_no_kind_of_source():
    (union,) = re.findall(r"AnySource = Annotated\[([\w\s|]+)", PAGE)
    assert {kind.__name__ for kind in KINDS.values()} < set(re.findall(r"\w+", union))


@pytest.mark.parametrize("path", re.findall(r"`((?:harness|tests)/[\w/.]+)`", PAGE))
def test_what_the_page_names_exists(path):
    assert (Path(__file__).parents[2] / path).exists()
