"""An axis under a condition: what holds where the condition does not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.study.axes import Axis
from harness.study.grid import recipes
from harness.study.recipe import RECIPE_FIELDS
from harness.study.spec import load_study
from tests.study.conftest import SOURCE

SHARED = """question: What helps?
source: source.yaml
recipe: {latents: 64, k: 4, tokens: 1000, batch: 100}
axes:
"""


@pytest.fixture
def load(tmp_path):
    """Loads a study with these axes."""

    def load(axes: str, shared: str = SHARED, more: str = ""):
        (tmp_path / "source.yaml").write_text(SOURCE)
        (tmp_path / "study.yaml").write_text(f"{shared}{axes}seeds: [0]\n{more}")
        return load_study(tmp_path / "study.yaml")

    return load


def test_a_penalty_for_dense_layers_alone_leaves_the_others_without_one(load):
    study = load("  layers: [none, dense 2-2]\n  penalty: {when: {layers: {dense 2-2: [0.1, 0.3]}}}\n")
    assert study.baseline() == {"layers": "none", "penalty": 0.0}
    assert study.base.penalty == 0.0
    assert [(recipe.layers, recipe.penalty) for _, recipe in recipes(study)] == [
        ("none", 0.0),
        ("dense 2-2", 0.1),
        ("dense 2-2", 0.3),
    ]


def test_what_jumprelu_is_charged_does_not_reach_batch_top_k(load):
    axes = "  sparsifier: [jumprelu, batchtopk]\n  sparsity: {when: {sparsifier: {jumprelu: [0.1, 0.3]}}}\n"
    study = load(axes)
    assert study.baseline() == {"sparsifier": "jumprelu", "sparsity": 0.1}
    found = [(recipe.sparsifier, recipe.sparsity) for _, recipe in recipes(study)]
    assert found == [("jumprelu", 0.1), ("jumprelu", 0.3), ("batchtopk", None)]


def test_the_recipe_may_lack_what_every_setting_sets(load):
    rates = "  lr: {tune: true, values: [1.0, 3.0]}\n"
    study = load(rates, shared=SHARED.replace("batch: 100", "batch: 100, optimizer: sgd"))
    assert [recipe.lr for _, recipe in recipes(study)] == [1.0, 3.0]
    sizes = "  size: {settings: {small: {k: 2}, free: {}}}\n  k: {when: {size: {free: [3, 5]}}}\n"
    study = load(sizes, shared=SHARED.replace("k: 4, ", ""))
    assert [recipe.k for _, recipe in recipes(study)] == [2, 3, 5]


@pytest.mark.parametrize("design", ["", "design: one_factor\n"])
def test_what_some_setting_lacks_is_missing(load, design):
    axes = "  layers: [none, dense 2-2]\n  k: {when: {layers: {dense 2-2: [2, 4]}}}\n"
    with pytest.raises(UserError, match=r":3: recipe\.k: this key is missing \(in none\)$"):
        recipes(load(axes, shared=SHARED.replace("k: 4, ", ""), more=design))


def test_a_setting_that_cannot_be_trained_is_shown_where_the_value_stands(load):
    axes = "  sparsifier:\n  - topk\n  - jumprelu\n"
    with pytest.raises(UserError, match=r":3: recipe\.sparsity: expected more than 0, .* \(in jumprelu\)$"):
        recipes(load(axes))
    axes = "  layers:\n  - none\n  - sparse 2\n  k: {when: {layers: {sparse 2: [2, 1]}}}\n"
    with pytest.raises(UserError, match=r":7: axes\.layers\[1\]: expected .* at least one of k \(1\), got"):
        recipes(load(axes))


FIELDS = {"penalty": (0.0, 0.1, 0.3), "gradient_clip": (0.1, 0.2), "aux_k": (None, 2), "warmup": (0.05, 0.2, 0.4)}


@given(st.data())
def test_without_its_condition_an_axis_changes_nothing(tmp_path_factory, data):
    """A setting differs from the stated recipe in what its own axes set, and in nothing else."""
    fields = data.draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=3, unique=True))
    lines = ["  optimizer: [adam, muon, lion]\n"]
    for field in fields:
        under = data.draw(st.lists(st.sampled_from(["adam", "muon", "lion"]), min_size=1, max_size=2, unique=True))
        values = {o: data.draw(st.permutations(FIELDS[field]).map(list)) for o in under}
        lines.append(f"  {field}: {{when: {{optimizer: {json.dumps(values)}}}}}\n")
    folder = tmp_path_factory.mktemp("conditions")
    (folder / "source.yaml").write_text(SOURCE)
    (folder / "study.yaml").write_text(SHARED + "".join(lines) + "seeds: [0]\n")
    study = load_study(folder / "study.yaml")
    axes: dict[str, Axis] = {axis.name: axis for axis in study.axes}
    for setting, recipe in recipes(study):
        for name in RECIPE_FIELDS.keys() - {"optimizer"}:
            there = name in axes and axes[name].choices(setting)
            assert there or getattr(recipe, name) == study.without_axes()[name]
    assert all(
        study.baseline()[name] == study.without_axes()[name]
        for name in fields
        if not axes[name].choices(study.baseline())
    )
