"""`indifference` in a study file."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.study.indifference import read_indifference
from harness.yaml_file import read_yaml


def read(tmp_path: Path, text: str) -> dict[str, float]:
    path = tmp_path / "s.yaml"
    path.write_text(f"question: q\nindifference: {text}\n")
    file = read_yaml(path)
    return read_indifference(file, file.mapping()["indifference"])


def test_outcomes_by_short_name_or_label_with_their_units(tmp_path: Path):
    assert read(tmp_path, "{fvu: 2 %, dead: 2 points}") == {"fvu": 2.0, "dead": 2.0}
    assert read(tmp_path, "{FVU: 0.5%, dead latents: 1.5 points}") == {"fvu": 0.5, "dead": 1.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{fuv: 2 %}", r"s.yaml:2: indifference.fuv: expected one of fvu, dead, .*fvu"),
        ("{l0: 2 %}", "expected one of fvu, dead"),
        ("{fvu: 2 points}", "expected a number above 0 with its unit, as in '2 %', got '2 points'"),
        ("{dead: 2}", "as in '2 points', got 2"),
        ("{fvu: -1 %}", "above 0"),
        ("{fvu: 100 %}", "above 0"),
        ("{fvu: nan %}", "above 0"),
        ("{fvu: 2 %, FVU: 1 %}", "FVU is here twice"),
    ],
)
def test_anything_else_is_named_with_its_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)
