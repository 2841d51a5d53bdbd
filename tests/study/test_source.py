"""Source files of both kinds, and the one line that a mistake in them gets."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from harness.errors import UserError
from harness.sources.kinds import KINDS, AnySource, load_source
from harness.sources.source import Source

from .conftest import SOURCE

SYNTHETIC = "{kind: synthetic, width: 16, features: 40, tokens: 1000, held_out_tokens: 500, active: 4}\n"


def load(folder: Path, text: str) -> Source:
    path = folder / "some.yaml"
    path.write_text(text)
    return load_source(path)


def test_every_kind_says_what_its_store_will_hold(tmp_path):
    text, synthetic = load(tmp_path, SOURCE), load(tmp_path, SYNTHETIC)
    assert (text.kind, text.stored.width, text.stored.hook) == ("docstrings", 16, "transformer.h.0")
    assert (synthetic.kind, synthetic.stored.width, synthetic.stored.hook) == ("synthetic", 16, "synthetic")
    assert (text.stored.features, synthetic.stored.features) == (None, 40)
    assert text.stored.tokens == synthetic.stored.tokens == {"train": 1000, "held_out": 500}
    assert [step.name for step in text.steps()] == ["corpus", "language_model", "activations"]
    assert [step.name for step in synthetic.steps()] == ["activations"]


def test_a_source_is_a_union_that_its_kind_discriminates():
    form = TypeAdapter(AnySource).json_schema()
    assert form["discriminator"]["propertyName"] == "kind"
    assert set(form["discriminator"]["mapping"]) == set(KINDS)


@pytest.mark.parametrize("name", ["docstrings", "tiny", "synthetic", "synthetic_nonlinear"])
def test_the_sources_of_the_repository_are_valid(name):
    assert load_source(Path(__file__).parents[2] / "studies" / "sources" / f"{name}.yaml").name == name


@pytest.mark.parametrize(
    ("text", "line"),
    {
        "no kind": (
            SOURCE.replace("kind: docstrings\n", ""),
            "2: kind: this key is missing; expected one of docstrings, pretrained, synthetic; "
            "its other keys are those of 'kind: docstrings'$",
        ),
        "no kind of known features": (
            SYNTHETIC.replace("kind: synthetic, ", ""),
            "1: kind: this key is missing; .*; its other keys are those of 'kind: synthetic'$",
        ),
        "no key of any kind": (
            "question: What?",
            "1: kind: this key is missing; .*; add it, as in 'kind: docstrings'$",
        ),
        "an unknown kind": ("kind: hub", "1: kind: expected one of docstrings, pretrained, synthetic, got 'hub'$"),
        "a list of kinds": ("kind: [synthetic]", r"1: kind: expected one of .*, got \['synthetic'\]$"),
        "nothing as kind": ("kind:", "1: kind: expected one of docstrings, pretrained, synthetic, got nothing$"),
        "a key of another kind": (
            SOURCE + "noise: 0.1",
            "6: noise: 'kind: docstrings' has no such key, only 'kind: synthetic' has$",
        ),
        "keys of the other kind": (
            SOURCE.replace("kind: docstrings", "kind: synthetic"),
            "3: corpus: 'kind: synthetic' has no such key, only 'kind: docstrings' has$",
        ),
        "its own path": (
            SYNTHETIC.replace("width", "path: x, width"),
            "1: path: unknown key; expected one of width, ",
        ),
        "empty": ("", "1: expected keys and values"),
        "half of one": (SOURCE.split("activations")[0], "activations: this key is missing"),
        "a stranger beside it": (
            SYNTHETIC.replace("width", "widht: 3, width"),
            "1: widht: unknown key; did you mean 'width'",
        ),
        "a misspelt key": (
            SYNTHETIC.replace("features", "featuers"),
            r"1: featuers: unknown key; did you mean 'features'\?",
        ),
        "a missing key": (SYNTHETIC.replace("width: 16, ", ""), "1: width: this key is missing$"),
        "text for a number": (
            SYNTHETIC.replace("40", "many"),
            "1: features: .* whole number, got 'many'$",
        ),
        "too many active": (
            SYNTHETIC.replace("active: 4", "active: 20.5"),
            r"1: active: expected at most 20 \(a feature fires on at most 50% .*\), got 20.5$",
        ),
        "too many active in a hierarchy": (
            SYNTHETIC.replace("active: 4", "hierarchy: 0.5, active: 16"),
            "1: active: expected at most 15 .* got 16$",
        ),
        "not finite": (
            SYNTHETIC.replace("active: 4", "active: 4, noise: .inf"),
            "1: noise: .* got inf$",
        ),
        "all children": (
            SYNTHETIC.replace("active: 4", "hierarchy: 1, active: 4"),
            "1: hierarchy: expected less than 1, got 1$",
        ),
        "correlation": (
            SYNTHETIC.replace("active: 4", "active: 4, correlation: 2"),
            "1: correlation: expected at most 1, got 2$",
        ),
    }.values(),
)
def test_a_mistake_gets_one_line(tmp_path, text, line):
    with pytest.raises(UserError, match=line) as failure:
        load(tmp_path, text)
    assert str(failure.value).startswith(f"{tmp_path / 'some.yaml'}:")
    assert "\n" not in str(failure.value)
