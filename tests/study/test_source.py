"""Source files of both kinds, and the one line that a mistake in them gets."""

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.study.source import SyntheticSource, TextSource, load_source

from .conftest import SOURCE

SYNTHETIC = "synthetic: {width: 16, features: 40, tokens: 1000, held_out_tokens: 500, active: 4}\n"


def load(folder: Path, text: str) -> TextSource | SyntheticSource:
    path = folder / "some.yaml"
    path.write_text(text)
    return load_source(path)


def test_both_kinds_say_their_width_and_hook(tmp_path):
    text, synthetic = load(tmp_path, SOURCE), load(tmp_path, SYNTHETIC)
    assert isinstance(text, TextSource)
    assert isinstance(synthetic, SyntheticSource)
    assert (text.width, text.hook) == (16, "transformer.h.0")
    assert (synthetic.width, synthetic.hook) == (16, "synthetic")


@pytest.mark.parametrize("name", ["docstrings", "tiny", "synthetic", "synthetic_nonlinear"])
def test_the_sources_of_the_repository_are_valid(name):
    assert load_source(Path(__file__).parents[2] / "studies" / "sources" / f"{name}.yaml").name == name


@pytest.mark.parametrize(
    ("text", "line"),
    {
        "both": (SYNTHETIC + SOURCE, "1: synthetic: expected this key alone, got 'activations', 'corpus', "),
        "neither": ("seed: 1", "1: expected either 'corpus', 'language_model' and 'activations', or 'synthetic'$"),
        "empty": ("", "1: expected keys and values"),
        "half of one": (SOURCE.split("activations")[0], "activations: this key is missing"),
        "a stranger beside it": (SYNTHETIC + "widht: 3", "2: widht: unknown key"),
        "no mapping": ("synthetic: 3", "1: synthetic: expected .*, got 3$"),
        "a misspelt key": (
            SYNTHETIC.replace("features", "featuers"),
            r"1: synthetic.featuers: unknown key; did you mean 'features'\?",
        ),
        "a missing key": (SYNTHETIC.replace("width: 16, ", ""), "1: synthetic.width: this key is missing$"),
        "text for a number": (
            SYNTHETIC.replace("40", "many"),
            "1: synthetic.features: .* whole number, got 'many'$",
        ),
        "too many active": (
            SYNTHETIC.replace("active: 4", "active: 20.5"),
            r"1: synthetic.active: expected at most 20 \(a feature fires on at most 50% .*\), got 20.5$",
        ),
        "too many active in a hierarchy": (
            SYNTHETIC.replace("active: 4", "hierarchy: 0.5, active: 16"),
            "1: synthetic.active: expected at most 15 .* got 16$",
        ),
        "not finite": (
            SYNTHETIC.replace("active: 4", "active: 4, noise: .inf"),
            "1: synthetic.noise: .* got inf$",
        ),
        "all children": (
            SYNTHETIC.replace("active: 4", "hierarchy: 1, active: 4"),
            "1: synthetic.hierarchy: expected less than 1, got 1$",
        ),
        "correlation": (
            SYNTHETIC.replace("active: 4", "active: 4, correlation: 2"),
            "1: synthetic.correlation: expected at most 1, got 2$",
        ),
    }.values(),
)
def test_a_mistake_gets_one_line(tmp_path, text, line):
    with pytest.raises(UserError, match=line) as failure:
        load(tmp_path, text)
    assert str(failure.value).startswith(f"{tmp_path / 'some.yaml'}:")
    assert "\n" not in str(failure.value)
