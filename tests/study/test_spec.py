"""Study files: what is accepted, and the one line that a mistake gets."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SettingError, UserError
from harness.study.catalogue import Layers, parse_layers
from harness.study.grid import recipes
from harness.study.spec import load_study

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_studies_of_the_project_are_valid(path):
    assert recipes(load_study(path))


def test_a_study_is_read_with_typed_values(write_study):
    study = load_study(write_study())
    assert study.name == "study"
    assert study.base.latents == 64
    assert study.baseline() == {"layers": "none", "penalty": 0.0, "optimizer": "adam"}
    lr = study.axes[-1]
    assert lr.tune
    assert lr.choices({"optimizer": "muon"}) == (0.01,)
    assert lr.levels() == (0.001, 0.004, 0.01)


MISTAKES = {
    "an unknown key": (("seeds:", "sedes:"), ":15: sedes: unknown key; did you mean 'seeds'?"),
    "an unknown recipe key": (("  k: 4", "  kk: 4"), ":5: recipe.kk: unknown key"),
    "an unknown axis": (
        ("penalty: [0", "penalti: [0"),
        ":10: axes.penalti: unknown axis; did you mean 'penalty'",
    ),
    "an axis of one number": (
        ("penalty: [0, 0.1]", "penalty: 0.1"),
        ":10: axes.penalty: expected a list of values, or keys and values, got 0.1",
    ),
    "an unknown key of an axis": (
        ("tune: true", "tuned: true"),
        ":13: axes.lr.tuned: unknown key; did you mean 'tune'",
    ),
    "a missing key": (("question: What helps?\n", ""), ":1: question: this key is missing"),
    "a wrong type": (("latents: 64", "latents: many"), ":4: recipe.latents: expected a whole number, got 'many'"),
    "a number as text": (("k: 4", "k: '4'"), ":5: recipe.k: expected a whole number, got '4'"),
    "a number out of bounds": (("k: 4", "k: 0"), ":5: recipe.k: expected at least 1, got 0"),
    "not a finite number": (("[0, 0.1]", "[0, .nan]"), ":10: axes.penalty[1]: expected a finite number, got nan"),
    "a wrong axis value": (
        ("[adam, muon]", "[adam, adan]"),
        ":11: axes.optimizer[1]: expected 'adam', 'adamw', 'sparse_adam', 'muon', 'soap', 'schedule_free_adam', "
        "'signum', 'lion' or 'sgd', got 'adan'",
    ),
    "a value twice": (("[0, 0.1]", "[0, 0.0]"), ":10: axes.penalty: expected each value once"),
    "no values": (("[0, 0.1]", "[]"), ":10: axes.penalty: expected "),
    "wrong layers": (("dense 2-2", "dense 2-2-2"), ":9: axes.layers[1]: expected 'none', 'dense W-W'"),
    "k as large as latents": (("k: 4", "k: 64"), ":5: recipe.k: expected less than latents (64), got 64"),
    "a batch above tokens": (
        ("batch: 100", "batch: 2000"),
        ":7: recipe.batch: expected at most tokens (1000), got 2000",
    ),
    "too many stacked layers": (
        ("dense 2-2", "sparse 5"),
        ":9: axes.layers[1]: expected sparse layers that each get at least one of k (4), got 'sparse 5'",
    ),
    "a condition on no axis": (
        ("when: {optimizer:", "when: {depth:"),
        ":14: axes.lr.when.depth: expected an axis that",
    ),
    "a value that no condition allows": (
        ("muon: [1e-2]}", "mu: [1e-2]}"),
        ":14: axes.lr.when.optimizer.mu: expected 'adam', 'adamw', ",
    ),
    "a condition on a value that is not in the grid": (
        ("optimizer: [adam, muon]", "optimizer: [adam]"),
        ":14: axes.lr.when.optimizer.muon: 'muon' is not a value of the axis 'optimizer' (adam)",
    ),
    "values and a condition": (
        ("tune: true", "values: [1]"),
        ":12: axes.lr: expected one of 'values', 'when' and 'settings'",
    ),
    "a seed twice": (("seeds: [0, 1]", "seeds: [1, 1]"), ":15: seeds: expected each seed once"),
    "no seeds": (("seeds: [0, 1]", "seeds: []"), ":15: seeds: expected "),
    "a seed as an axis": (("  penalty:", "  seed:"), ":10: axes.seed: unknown axis; seeds belong under 'seeds'"),
    "a key twice": (("  k: 4", "  k: 4\n  k: 5"), ":6: recipe.k: this key is here twice (line 5)"),
    "an axis without a base": (("  tokens: 1000\n", ""), ":3: recipe.tokens: this key is missing"),
    "no source file": (("source.yaml", "nowhere.yaml"), "nowhere.yaml: No such file or directory"),
    "a list": (("question: What helps?\n", "- a\n"), ": not YAML: "),
    "broken YAML": (("seeds: [0, 1]", "seeds: [0, 1"), ": not YAML: "),
    "an impossible design": (
        ("seeds:", "design: all\nseeds:"),
        ":15: design: expected 'factorial', 'one_factor', 'leave_one_out', {fraction: 1/2} or {sampled: 40}, got",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_line_with_file_key_and_expectation(write_study, mistake):
    replacement, expected = MISTAKES[mistake]
    path = write_study(replacement)
    with pytest.raises(UserError) as error:
        recipes(load_study(path))
    message = str(error.value)
    assert expected in message
    assert message.startswith(str(path.parent))
    assert "\n" not in message


def test_a_file_name_that_cannot_name_a_folder_is_refused(write_study):
    with pytest.raises(UserError, match="expected a file name of at most 100 letters"):
        load_study(write_study(name="..yaml.yaml"))


@given(st.text(max_size=200))
def test_no_text_makes_a_traceback(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "study.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape" if text.isprintable() else "replace")
    with pytest.raises(UserError):
        load_study(path)


@given(
    st.sampled_from(["question", "source", "recipe", "axes", "design", "seeds", "tuning_seeds"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_no_value_of_any_key_makes_a_traceback(tmp_path_factory, key, value):
    import yaml

    from tests.study.conftest import SOURCE, STUDY

    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "source.yaml").write_text(SOURCE)
    (folder / "study.yaml").write_text(yaml.safe_dump({**yaml.safe_load(STUDY), key: value}))
    with suppress(UserError):
        recipes(load_study(folder / "study.yaml"))


WIDTHS = st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=1, max_size=3)


def written(widths: list[float]) -> str:
    return "-".join(f"{width:g}" for width in widths)


@given(WIDTHS, WIDTHS)
def test_added_layers_are_read_in_data_flow_order(before, more):
    behind = (before + more)[-len(before) :]
    assert parse_layers(f"dense_encoder {written(before)}") == Layers(encoder=tuple(before))
    expected = Layers(encoder=tuple(before), decoder=tuple(behind))
    assert parse_layers(f"dense {written(before + behind)}") == expected


@given(st.lists(st.integers(1, 99), min_size=2, max_size=6))
def test_stacked_layers_share_in_proportion_or_have_all_each(parts):
    assert parse_layers("sparse " + "-".join(map(str, parts))).stack == tuple(p / sum(parts) for p in parts)
    equal = parse_layers(f"sparse {parts[0]}")
    assert equal.depth == parts[0]
    assert sum(equal.stack) == pytest.approx(1)
    assert set(equal.stack) == {1 / parts[0]}
    assert parse_layers(f"sparse {parts[0]} each").stack == (1.0,) * parts[0]


def test_no_layers_is_one_sparse_layer_with_all():
    assert parse_layers("none") == Layers(stack=(1.0,))


@pytest.mark.parametrize(
    "text",
    [
        *("", "deep", "dense", "dense 2", "dense 0-0", "sparse 0", "sparse x", "none 2", "dense 2--2"),
        *("sparse 4-0", "sparse 4-", "sparse 100", "sparse 4-2 each", "sparse 3  each", "sparse 0 each"),
    ],
)
def test_other_layers_are_refused(text):
    with pytest.raises(SettingError, match="expected 'none'"):
        parse_layers(text)


def test_a_study_names_published_figures_to_show_beside_its_own(write_study):
    published = "published: {title: theirs, note: of a larger model, nmse: {none: {4: 0.2}}}\nseeds:"
    assert load_study(write_study(("seeds:", published))).published.nmse == {"none": {4: 0.2}}
    with pytest.raises(UserError, match=r"published\.nmse"):
        load_study(write_study(("seeds:", published.replace("{4:", "{four:"))))
