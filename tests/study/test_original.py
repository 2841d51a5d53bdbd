"""The studies of the original: they can be planned, and the small ones differ in what they say they do."""

from pathlib import Path

import pytest

from harness.study.grid import recipes
from harness.study.known import size
from harness.study.spec import load_study

pytest.importorskip("harness.sources.pretrained")
FOLDER = Path(__file__).parents[2] / "studies" / "original"
SCALED = {"latents", "k", "tokens", "batch", "dead_window", "lr", "warmup", "decay"}


@pytest.mark.parametrize("name", ["original", "stacked", "original_scaled", "stacked_scaled"])
def test_all_of_its_cells_can_be_trained(name):
    study = load_study(FOLDER / f"{name}.yaml")
    assert study.name == name
    assert recipes(study)
    assert size(study) == {"original": 24, "stacked": 90, "original_scaled": 72, "stacked_scaled": 36}[name]


@pytest.mark.parametrize("name", ["original", "stacked"])
def test_the_small_one_is_the_large_one_but_for_its_size(name):
    large, small = (load_study(FOLDER / f"{which}.yaml").stated for which in (name, f"{name}_scaled"))
    assert {field for field in large | small if large.get(field) != small.get(field)} <= SCALED
    assert small["latents"] < large["latents"]


def test_both_show_the_same_published_figures_and_say_what_differs():
    large, small = (load_study(FOLDER / f"{name}.yaml").published for name in ("original", "original_scaled"))
    assert large.nmse == small.nmse
    assert set(large.nmse) == {"none, penalty 0", "dense 2-2, penalty 0"}  # as the figure names these arms
    for number in ("128 instead of 768", "2,048 latents", "100,000 tokens of docstrings instead of 7.5e9"):
        assert number in small.note
