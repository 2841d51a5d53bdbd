"""The prompts, word by word: what is sent is what `prompts/` has. Whoever edits a prompt edits its file, too."""

from pathlib import Path

import pytest

from harness.interpretability.endpoint.excerpts import Shown
from harness.interpretability.endpoint.prompts import to_detect, to_explain, to_find_intruder, to_fuzz

FILES = Path(__file__).parent / "prompts"
EXPLANATION = "the word “river” after a colour"
FIRST = Shown((("The blue", False), (" river", True), (" ran\n\tpast “it”.", False)))
SECOND = Shown((("A red", False), (" river", True), (" and a", False), (" green river", True)))
SILENT = Shown((('No "rivers" in C:\\temp here', False),))


def unmarked(one: Shown) -> Shown:
    return Shown(((one.text, False),))


PROMPTS = {
    "explanation": to_explain([SECOND, FIRST, SILENT], [10, 4, 0]),
    "detection": to_detect(EXPLANATION, [unmarked(FIRST), SILENT, unmarked(SECOND)]),
    "fuzzing": to_fuzz(EXPLANATION, [SECOND, FIRST]),
    "intruder": to_find_intruder([FIRST, Shown((("No", True), (" water", False))), SECOND]),
    "intruder_unmarked": to_find_intruder([unmarked(FIRST), SILENT, unmarked(SECOND)]),
    "other_marks": to_fuzz(EXPLANATION, [Shown(((">>> print(", False), ("river", True), (")", False)))]),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_as_its_file_has_it(name):
    prompt = PROMPTS[name]
    assert (FILES / f"{name}.txt").read_text(encoding="utf-8") == f"{prompt.system}\n=====\n{prompt.user}\n"


def test_there_is_no_file_without_a_prompt():
    assert {path.stem for path in FILES.iterdir()} == set(PROMPTS)


def test_a_prompt_for_detection_shows_no_marks():
    assert "river" in PROMPTS["detection"].user
    assert not {"<<", ">>"} & set(PROMPTS["detection"].system + PROMPTS["detection"].user)
    assert "<<" not in PROMPTS["detection"].user
