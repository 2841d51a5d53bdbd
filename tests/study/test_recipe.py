"""What a recipe refuses, and what follows from it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SettingError, UserError
from harness.study.catalogue import OPTIMIZERS, parse_shares
from harness.study.grid import describe, recipes
from harness.study.recipe import Recipe
from harness.study.spec import load_study


def recipe(**changes) -> Recipe:
    return Recipe(**{"latents": 64, "k": 4, "tokens": 1024, **changes})


# What is wrong -> the changes, the field that is named, what it should be, and its value.
REFUSED = {
    "k is as large as latents": ({"k": 64}, "k", "less than latents (64)", 64),
    "k_start is as large as latents": ({"k_start": 64}, "k_start", "less than latents (64)", 64),
    "more layers than k": ({"layers": "sparse 5"}, "layers", "at least one of k (4)", "sparse 5"),
    "more layers than k_start": (
        {"layers": "sparse 3", "k_start": 2},
        "layers",
        "at least one of k_start (2)",
        "sparse 3",
    ),
    "a layer with as many active latents as latents": (
        {"layers": "sparse 9-1", "latents": 10, "k": 6},
        "layers",
        "more latents than k",
        "sparse 9-1",
    ),
    "no layers": ({"layers": "sparse"}, "layers", "'none', 'dense W-W'", "sparse"),
    "falling shares": ({"prefixes": "0.5-0.2"}, "prefixes", "'none' or rising shares", "0.5-0.2"),
    "relu without L1": ({"sparsifier": "relu"}, "sparsity", "more than 0, since relu", None),
    "jumprelu without L0": ({"sparsifier": "jumprelu"}, "sparsity", "more than 0, since jumprelu", None),
    "L1 with free norms": (
        {"sparsifier": "relu", "sparsity": 1.0, "decoder_norm": "free"},
        "decoder_norm",
        "'unit', since",
        "free",
    ),
    "resampling with norms of dimensions": (
        {"resample": 100, "decoder_norm": "unit_per_dimension"},
        "decoder_norm",
        "'unit' or 'free', since",
        "unit_per_dimension",
    ),
    "no rate for sgd": ({"optimizer": "sgd"}, "lr", "more than 0, since sgd", None),
    "a batch above tokens": ({"batch": 1025}, "batch", "at most tokens (1024)", 1025),
    "decay within the warm-up": (
        {"warmup": 0.6, "decay": 0.5},
        "warmup",
        "at most 1 - decay (0.5)",
        0.6,
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_recipe_that_cannot_be_trained_says_which_field_what_was_expected_and_what_it_got(mistake):
    changes, key, expected, got = REFUSED[mistake]
    with pytest.raises(SettingError) as raised:
        recipe(**changes)
    error = raised.value
    assert (error.key, error.got) == (key, got)
    assert expected in error.expected
    assert str(error) == f"{key}: {error.message}"
    assert error.message.startswith(f"expected {error.expected}, got ")


def test_every_layer_may_have_all_the_latents():
    assert recipe(layers="sparse 9 each", k=1).k == 1


@pytest.mark.parametrize("optimizer", [name for name, spec in OPTIMIZERS.items() if spec.default_lr])
def test_a_learning_rate_that_is_left_out_falls_with_the_square_root_of_the_latents(optimizer):
    rates = [recipe(optimizer=optimizer, latents=latents).peak_lr for latents in (2**14, 2**12, 2**16)]
    assert rates == pytest.approx([OPTIMIZERS[optimizer].default_lr * factor for factor in (1, 2, 0.5)])
    assert recipe(optimizer=optimizer, lr=0.5).peak_lr == 0.5


def test_an_incomplete_batch_is_no_step():
    assert recipe(tokens=1999, batch=1000).steps == 1


@given(st.lists(st.integers(1, 999), min_size=1, max_size=5, unique=True))
def test_rising_shares_are_read_back(thousandths):
    shares = [number / 1000 for number in sorted(thousandths)]
    assert parse_shares("-".join(f"{share:g}" for share in shares)) == tuple(shares)


@pytest.mark.parametrize("text", ["", "0", "0.0", "1", "1.5", "0.5-0.5", "0.5-", "half", "-0.5", ".0-.5"])
def test_other_shares_are_refused(text):
    with pytest.raises(SettingError, match="rising shares"):
        parse_shares(text)


OFF = {
    "lr": "more than 0, or null for the optimizer's default for this many latents",
    "aux_k": "at least 1, or null for none",
    "k_start": "at least 1, or null for k from the start",
    "resample": "at least 1, or null for never",
    "gradient_clip": "more than 0, or null for any",
    "sparsity": "more than 0, or null for none",
}


@pytest.mark.parametrize("name", OFF)
def test_what_is_off_is_null_and_a_zero_gets_one_line(write_study, name):
    expected = re.escape(f"{name}: expected {OFF[name]}, got 0")
    with pytest.raises(UserError, match=rf":6: recipe\.{expected}$"):
        load_study(write_study(("k: 4", f"k: 4\n  {name}: 0")))
    with pytest.raises(SettingError, match=f"^{expected}$"):
        recipe(**{name: 0})
    assert load_study(write_study(("k: 4", f"k: 4\n  {name}: null"))).stated[name] is None


def test_a_zero_on_an_axis_does_too(write_study):
    with pytest.raises(UserError, match=r":10: axes\.aux_k\[1\]: expected at least 1, or null for none, got 0$"):
        load_study(write_study(("penalty: [0, 0.1]", "aux_k: [8, 0]")))


def test_a_setting_that_is_off_is_a_level_like_any_other(write_study):
    study = load_study(write_study(("penalty: [0, 0.1]", "aux_k: [null, 8]")))
    settings = [setting for setting, _ in recipes(study)]
    assert {setting["aux_k"] for setting in settings} == {None, 8}
    assert describe(settings[0]) == "none, aux_k none, adam, lr 0.001"
