from dataclasses import replace
from itertools import product
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harness.study.axes import Axis
from harness.study.grid import settings
from harness.study.identity import cell_id
from harness.study.known import known
from harness.study.labels import describe, show
from harness.study.recipe import Recipe
from harness.study.spec import load_study

SMOKE = Path(__file__).parents[2] / "studies" / "smoke.yaml"


def test_a_factorial_has_every_setting_once_under_its_conditions(write_study):
    rows = settings(load_study(write_study()))
    expected = [
        {"layers": layers, "penalty": penalty, "optimizer": optimizer, "lr": lr}
        for layers, penalty in product(["none", "dense 2-2"], [0.0, 0.1])
        for optimizer, lr in [("adam", 1e-3), ("adam", 4e-3), ("muon", 1e-2)]
    ]
    assert rows == expected


def test_one_factor_changes_one_axis_at_a_time_and_tunes_each_arm(write_study):
    rows = settings(load_study(write_study(("seeds:", "design: one_factor\nseeds:"))))
    arms = {tuple(row[a] for a in ("layers", "penalty", "optimizer")) for row in rows}
    assert arms == {
        ("none", 0.0, "adam"),
        ("dense 2-2", 0.0, "adam"),
        ("none", 0.1, "adam"),
        ("none", 0.0, "muon"),
    }
    assert len(rows) == 3 * 2 + 1


def test_an_axis_whose_condition_fails_stands_at_the_base_value(write_study):
    condition = "optimizer: {when: {layers: {none: [adam, muon]}}}"
    rows = settings(load_study(write_study(("optimizer: [adam, muon]", condition))))
    assert {(r["layers"], r["optimizer"]) for r in rows} == {
        ("none", "adam"),
        ("none", "muon"),
        ("dense 2-2", "adam"),
    }


def test_cells_are_settings_times_seeds_with_an_identity_each(write_study):
    study = load_study(write_study())
    found = known(study, "source").cells
    assert len(found) == len(settings(study)) * 2
    assert len({cell.id for cell in found}) == len(found)
    assert found == known(study, "source").cells
    assert not {c.id for c in found} & {c.id for c in known(study, "other source").cells}
    assert found[1].arm == {"layers": "none", "penalty": 0.0, "optimizer": "adam"}
    assert found[1].tuned == {"lr": 0.001}
    assert found[1].recipe.seed == 1


def test_another_study_that_asks_for_the_same_recipe_names_the_same_cell(write_study):
    first = known(load_study(write_study()), "s").cells
    alone = "axes:\n  lr: [4e-3]\nseeds: [1]\n"
    text = write_study().read_text()
    other = write_study((text[text.index("axes:") :], alone), name="other.yaml")
    (cell,) = known(load_study(other), "s").cells
    assert cell.id in {c.id for c in first}


AXES = st.lists(
    st.tuples(
        st.sampled_from(["penalty", "lr", "warmup", "gradient_clip"]),
        st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, max_size=3, unique=True),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda axis: axis[0],
)


@given(AXES)
def test_the_size_of_a_factorial_is_the_product_of_its_axes(tmp_path_factory, axes):
    study = load_study(SMOKE)
    study = replace(study, axes=tuple(Axis(name, tune=False, values=tuple(v)) for name, v in axes))
    rows = settings(study)
    assert rows == [
        dict(zip([name for name, _ in axes], values, strict=True)) for values in product(*(v for _, v in axes))
    ]


def test_identity_does_not_depend_on_how_a_number_is_written():
    assert cell_id(Recipe(latents=64, k=4, tokens=1024, lr=1e-3), "s") == cell_id(
        Recipe(latents=64, k=4, tokens=1024, lr=0.001), "s"
    )


def test_a_setting_is_described_in_words():
    assert describe({"layers": "dense 2-2", "penalty": 0.1, "lr": 1e-3}) == "dense 2-2, penalty 0.1, lr 0.001"
    assert describe({"layers": "none", "penalty": None}) == "none, penalty none"
    assert describe({"remedy": "a, b", "layers": "none"}) == "'a, b', none"
    assert [show(level) for level in (None, True, 2.0, 1e-3, 1e10, "none")] == [
        *("none", "true", "2", "0.001", "10000000000", "none")
    ]
