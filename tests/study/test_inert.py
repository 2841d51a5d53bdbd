"""Settings that do nothing beside the others: no part of a cell's identity, and no axis."""

from dataclasses import replace

import pytest

from harness.errors import UserError
from harness.study.catalogue import OPTIMIZERS
from harness.study.grid import recipes
from harness.study.identity import cell_id, code_of, inert
from harness.study.known import possible_cells
from harness.study.recipe import RECIPE_FIELDS, Recipe
from harness.study.spec import load_study
from tests.study.conftest import SOURCE

SHARED = """question: What helps?
source: source.yaml
recipe: {latents: 64, k: 4, tokens: 1000, batch: 100}
axes:
"""
REFUSED = {
    "sparsity: [null, 0.1, 1]": "'sparsity 0.1' trains the same as 'sparsity none', since sparsity does "
    "nothing if sparsifier is topk",
    "weight_decay: [0, 0.1]": "since weight_decay does nothing if optimizer is adam",
    "aux_weight: [0.1, 1]": "since aux_weight does nothing if aux_k is none",
    "k_decay: [0.1, 1]": "since k_decay does nothing if k_start is none",
    "penalty_on: [relu, linear]": "since penalty_on does nothing if penalty is 0",
    "k_start: [null, 4]": "'k_start 4' trains the same as 'k_start",
    "tokens: [1000, 1099]": "'tokens 1099' trains the same as 'tokens 1000'",
    "resample: [null, 900]": "'resample 900' trains the same as 'resample",
    "layers: [none, sparse 1]": "'sparse 1' trains the same as 'none'",
    "optimizer: [schedule_free_adam]\n  decay: {tune: true, values: [0.1, 0.2]}": "since decay does nothing if "
    "optimizer is schedule_free_adam",
    "sparsifier: [relu]\n  sparsity: [0.1]\n  k: [4, 8]": "since k does nothing if sparsifier is relu",
    "sparsifier: [topk, jumprelu]\n  sparsity: [0.1, 1]": "'topk, sparsity 1' trains the same as "
    "'topk, sparsity 0.1'",
    "remedy: {settings: {plain: {}, weighted: {aux_weight: 1}}}": "aux_weight does nothing if aux_k is none",
}
ALLOWED = {
    "sparsifier: [topk, jumprelu]\n  sparsity: {when: {sparsifier: {jumprelu: [0.1, 1]}}}": 3,
    "penalty: [0, 0.1]\n  penalty_on: {when: {penalty: {0.1: [relu, linear]}}}": 3,
    "aux_k: [null, 8]\n  aux_weight: {tune: true, when: {aux_k: {8: [0.1, 1]}}}": 3,
    "k_start: [null, 8]\n  k_decay: {when: {k_start: {8: [0.1, 1]}}}": 3,
    "optimizer: [adam, adamw]\n  weight_decay: {when: {optimizer: {adamw: [0.1, 1]}}}": 3,
}


@pytest.fixture
def load(tmp_path):
    def load(axes: str, shared: str = SHARED):
        (tmp_path / "source.yaml").write_text(SOURCE)
        (tmp_path / "study.yaml").write_text(f"{shared}  {axes}\nseeds: [0]\n")
        return load_study(tmp_path / "study.yaml")

    return load


@pytest.mark.parametrize("axes", REFUSED)
def test_an_axis_over_a_setting_that_does_nothing_is_refused(load, axes):
    with pytest.raises(UserError) as refused:
        recipes(load(axes))
    (line,) = str(refused.value).splitlines()
    name = axes.splitlines()[-1].partition(":")[0].strip()
    place = 5 + axes.count("\n")
    assert f"study.yaml:{place}: axes.{name}: expected settings that differ, " in line
    assert REFUSED[axes] in line


@pytest.mark.parametrize("axes", ALLOWED)
def test_it_may_be_one_where_it_does_something(load, axes):
    study = load(axes)
    assert len({cell.id for cell in possible_cells(study, "source")}) == ALLOWED[axes]


def test_studies_that_state_it_differently_share_their_cells(load):
    axes = "penalty: [0, 0.1]"
    one, two = (
        {cell.id for cell in possible_cells(load(axes, SHARED.replace("batch:", f"{more} batch:")), "source")}
        for more in ("", "weight_decay: 0.5, sparsity: 1, aux_weight: 1, k_decay: 0.1, lr: 0.0032,")
    )
    assert one == two


def test_all_other_settings_count():
    recipe = Recipe(latents=64, k=4, tokens=1000, batch=100)
    assert inert(recipe).keys() == {
        *("sparsity", "weight_decay", "penalty", "penalty_on", "aux_k", "aux_weight", "prefixes", "k_decay")
    }
    assert inert(recipe).keys() < RECIPE_FIELDS.keys()
    assert cell_id(recipe, "one") != cell_id(recipe, "another")


def test_what_the_catalogue_says_of_a_member_counts_where_training_asks_for_it(monkeypatch):
    adam, lion = (Recipe(latents=64, k=4, tokens=1000, batch=100, optimizer=name) for name in ("adam", "lion"))
    before = code_of(adam), code_of(lion), cell_id(adam, "s")
    monkeypatch.setitem(OPTIMIZERS, "lion", replace(OPTIMIZERS["lion"], schedule_free=True))
    assert code_of(adam) == before[0]
    assert code_of(lion) != before[1]
    monkeypatch.setitem(OPTIMIZERS, "adam", replace(OPTIMIZERS["adam"], default_lr=1.0, passing=5))
    assert code_of(adam) == before[0]
    assert cell_id(adam, "s") != before[2]
