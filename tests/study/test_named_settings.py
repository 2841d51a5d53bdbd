"""An axis of named settings: levels that stand for bundles of recipe fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.study.arms import arms
from harness.study.grid import levels, recipes, settings
from harness.study.known import known
from harness.study.spec import load_study
from tests.study.conftest import SOURCE

SHARED = """question: What brings latents back?
source: source.yaml
recipe: {latents: 64, k: 4, tokens: 1000, batch: 100}
axes:
"""
REMEDY = """  remedy:
    settings:
      none: {}
      spread 0.1: {penalty: 0.1}
      linear spread 0.1: {penalty: 0.1, penalty_on: linear}
      lower lr: {lr: 5e-4}
"""
SEEDS = "seeds: [0, 1]\n"


@pytest.fixture
def write(tmp_path):
    """Writes a study with these axes, and returns its path."""

    def write(axes: str, more: str = SEEDS, shared: str = SHARED):
        (tmp_path / "source.yaml").write_text(SOURCE)
        (tmp_path / "study.yaml").write_text(shared + axes + more)
        return tmp_path / "study.yaml"

    return write


def test_the_name_is_the_level_and_the_fields_go_into_the_recipe(write):
    study = load_study(write(REMEDY + "  layers: [none, dense 2-2]\n"))
    assert study.baseline() == {"remedy": "none", "layers": "none"}
    pairs = recipes(study)
    assert [s["remedy"] for s, _ in pairs[::2]] == ["none", "spread 0.1", "linear spread 0.1", "lower lr"]
    assert [(r.penalty, r.penalty_on, r.lr) for _, r in pairs[::2]] == [
        (0.0, "relu", None),
        (0.1, "relu", None),
        (0.1, "linear", None),
        (0.0, "relu", 5e-4),
    ]
    assert known(study, "s").cells[2].arm == {"remedy": "none", "layers": "dense 2-2"}


def test_another_axis_may_depend_on_it_and_stands_elsewhere_at_what_the_setting_says(write):
    lr = "  lr: {tune: true, when: {remedy: {none: [1e-3, 2e-3], spread 0.1: [1e-3, 2e-3]}}}\n"
    study = load_study(write(REMEDY + lr))
    assert [(s["remedy"], s["lr"]) for s in settings(study)] == [
        ("none", 1e-3),
        ("none", 2e-3),
        ("spread 0.1", 1e-3),
        ("spread 0.1", 2e-3),
        ("linear spread 0.1", None),  # what the recipe leaves out: the default, not another level's
        ("lower lr", 5e-4),
    ]
    assert levels(study)["lr"] == [1e-3, 2e-3, None, 5e-4]
    assert [len(arm.tuned) for arm in arms(study)] == [2, 2, 1, 1]


def test_one_factor_counts_it_as_one_whatever_it_sets(write):
    penalty = "  penalty: {when: {remedy: {none: [0, 0.2]}}}\n  optimizer: [adam, muon]\n"
    study = load_study(write(REMEDY + penalty, "design: one_factor\n" + SEEDS))
    assert [tuple(s.values()) for s in settings(study)] == [
        ("none", 0.0, "adam"),
        ("none", 0.0, "muon"),
        ("none", 0.2, "adam"),
        ("spread 0.1", 0.1, "adam"),
        ("linear spread 0.1", 0.1, "adam"),
        ("lower lr", 0.0, "adam"),
    ]


def test_two_axes_may_set_a_field_where_no_cell_has_both(write):
    other = "  speed: {settings: {as it is: {}, slow: {lr: 1e-4}}}\n"
    study = load_study(write(REMEDY + other, "design: one_factor\n" + SEEDS))
    assert len(recipes(study)) == 5


def test_it_may_be_tuned_and_may_give_the_base_its_sizes(write):
    sizes = "  size: {tune: true, settings: {small: {latents: 64, k: 4}, large: {latents: 128, k: 8}}}\n"
    shared = SHARED.replace("latents: 64, k: 4, ", "")
    study = load_study(write(sizes, shared=shared))
    assert [(r.latents, r.k) for _, r in recipes(study)] == [(64, 4), (128, 8)]
    assert [cell.tuned for cell in known(study, "s").cells[::2]] == [{"size": "small"}, {"size": "large"}]


def remedy(text: str) -> str:
    return f"  remedy: {text}\n"


MISTAKES = {
    "a recipe field as its name": (
        "  lr: {settings: {a: {}}}\n",
        ":5: axes.lr: expected a name that is no recipe",
    ),
    "an odd name": (
        "  a_b: {settings: {a: {}}}\n",
        ":5: axes.a_b: expected a name of letters, digits, ' ' and '-'",
    ),
    "no settings": (remedy("{settings: {}}"), ":5: axes.remedy.settings: expected "),
    "settings and values": (
        remedy("{settings: {a: {}}, values: [1]}"),
        ":5: axes.remedy: expected one of 'values'",
    ),
    "a list": (remedy("[none, spread]"), ":5: axes.remedy: unknown axis"),
    "a level that is no text": (
        remedy("{settings: {0.1: {penalty: 0.1}}}"),
        ":5: axes.remedy.settings.0.1: expected text as the level's name, got 0.1",
    ),
    "a level that is a truth value": (
        remedy("{settings: {false: {}}}"),
        "expected text as the level's name, got false",
    ),
    "an empty level": (remedy("{settings: {'': {}}}"), "expected text as the level's name, got ''"),
    "fields that are no mapping": (remedy("{settings: {a: 3}}"), ":5: axes.remedy.settings.a: expected "),
    "an unknown field": (
        remedy("\n    settings:\n      a: {penaltie: 1}"),
        ":7: axes.remedy.settings.a.penaltie: unknown key; did you mean 'penalty'",
    ),
    "a seed": (remedy("{settings: {a: {seed: 1}}}"), "a.seed: unknown key; seeds belong under 'seeds'"),
    "a wrong value": (
        remedy("\n    settings:\n      a:\n        lr: -1"),
        ":8: axes.remedy.settings.a.lr: expected more than 0, got -1",
    ),
    "values that do not fit each other": (
        remedy("\n    settings:\n      a: {k: 64}"),
        ":7: axes.remedy.settings.a.k: expected less than latents (64), got 64 (in a)",
    ),
    "a field of an axis before it": (
        "  lr: [1e-3, 2e-3]\n" + REMEDY,
        ":11: axes.remedy.settings.lower lr.lr: 'lr' is an axis, too: expected it after 'remedy'",
    ),
    "a field of an axis behind it": (
        REMEDY + "  lr: [1e-3, 2e-3]\n",
        ":11: axes.lr: expected one axis that sets 'lr', 'remedy' and 'lr' both do (in lower lr, lr 0.001)",
    ),
    "a field of another bundle": (
        REMEDY + "  speed: {settings: {as it is: {}, slow: {lr: 1e-4}}}\n",
        ":11: axes.speed: expected one axis that sets 'lr', 'remedy' and 'speed' both do (in lower lr, slow)",
    ),
    "two that are the same": (
        remedy("{settings: {none: {}, zero: {penalty: 0}}}"),
        ":5: axes.remedy: expected settings that differ, 'zero' trains the same as 'none'",
    ),
    "a condition on no level": (
        REMEDY + "  k: {when: {remedy: {lower: [2]}}}\n",
        ":11: axes.k.when.remedy.lower: 'lower' is not a value of the axis 'remedy' (none, spread 0.1, linear",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line_with_file_key_and_expectation(write, mistake):
    axes, expected = MISTAKES[mistake]
    with pytest.raises(UserError) as error:
        recipes(load_study(write(axes)))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_size_that_not_all_settings_give_is_missing(write):
    shared = SHARED.replace("latents: 64, ", "")
    with pytest.raises(UserError, match=r":3: recipe\.latents: this key is missing \(in other\)"):
        recipes(load_study(write("  size: {settings: {small: {latents: 64}, other: {}}}\n", shared=shared)))


BUNDLES = st.dictionaries(
    st.sampled_from(["penalty", "lr", "warmup", "gradient_clip"]), st.sampled_from([0.2, 0.3, 0.4]), max_size=3
)


@given(
    st.lists(BUNDLES, min_size=1, max_size=4, unique_by=lambda bundle: tuple(sorted(bundle.items()))),
    st.lists(st.sampled_from([4, 8, 16]), min_size=1, max_size=3, unique=True),
)
def test_each_setting_changes_its_own_fields_and_no_other(tmp_path_factory, bundles, ks):
    import yaml

    folder = tmp_path_factory.mktemp("bundles")
    (folder / "source.yaml").write_text(SOURCE)
    axes = {"remedy": {"settings": {f"level {i}": bundle for i, bundle in enumerate(bundles)}}, "k": ks}
    data = {**yaml.safe_load(SHARED), "axes": axes, "seeds": [0]}
    del data["recipe"]["k"]
    (folder / "study.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    study = load_study(folder / "study.yaml")
    found = recipes(study)
    named = axes["remedy"]["settings"]
    assert [(s["remedy"], s["k"]) for s, _ in found] == [(level, k) for level in named for k in ks]
    for setting, recipe in found:
        bundle = named[setting["remedy"]]
        alone = study.without_axes()
        changed = {name for name, value in vars(recipe).items() if value != alone.get(name)}
        assert changed - {"k"} <= set(bundle)
        assert all(getattr(recipe, name) == value for name, value in bundle.items())
        assert recipe.k == setting["k"]


@pytest.mark.parametrize("name", ["state", "seed number", "mcc", "layer", "retries", "arm"])
def test_an_axis_may_have_the_name_of_a_column(write, name):
    study = load_study(write(f"  {name}: {{settings: {{a: {{}}, b: {{penalty: 0.1}}}}}}\n"))
    assert [setting[name] for setting, _ in recipes(study)] == ["a", "b"]
