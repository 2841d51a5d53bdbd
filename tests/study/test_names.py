"""Names from study files: they never lead out of a workspace, and are printed as they are."""

import json
import shutil

import pytest

from harness.cli import main
from harness.errors import UserError
from harness.study.spec import load_study
from tests.conftest import make_workspace

NO_FOLDERS = (
    "..",
    ".hidden",
    "a.b",
    "a b",
    "-a",
    "_a",
    "~",
    "~root",
    "a\\b",
    "..\\b",
    "C:b",
    "[red]",
    "é",
    "a\nb",
    "x" * 101,
)
LEADING_OUT = (
    "../x",
    "../../etc/passwd",
    "/abs",
    "~",
    "a/../../b",
    "C:\\x",
    "..",
    "a\nb",
    "a\0b",
    "x" * 101,
    "${HOME}",
)


@pytest.mark.parametrize("name", NO_FOLDERS)
def test_a_study_names_its_folder_with_plain_characters(write_study, name):
    with pytest.raises(UserError, match="expected a file name of at most 100 letters, digits"):
        load_study(write_study(name=f"{name}.yaml"))


@pytest.mark.parametrize("name", NO_FOLDERS)
def test_a_source_names_its_folder_with_plain_characters(write_study, name):
    path = write_study(("source.yaml", json.dumps(f"{name}.yaml")))
    path.with_name("source.yaml").rename(path.with_name(f"{name}.yaml"))
    with pytest.raises(UserError, match=r"expected a (file name of at most 100 letters, digits|source file, got)"):
        load_study(path)


def test_a_source_elsewhere_still_fills_a_folder_of_its_own(write_study, tmp_path):
    path = write_study(("source.yaml", "../elsewhere/other.yaml"))
    (tmp_path.parent / "elsewhere").mkdir()
    path.with_name("source.yaml").rename(tmp_path.parent / "elsewhere" / "other.yaml")
    assert load_study(path).source.name == "other"


@pytest.mark.parametrize("name", LEADING_OUT)
def test_an_axis_has_a_plain_name(write_study, name):
    with pytest.raises(UserError, match=r"axes.*: expected (a name of letters|printable text)"):
        load_study(
            write_study(("penalty: [0, 0.1]", f"{json.dumps(name)}: {{settings: {{a: {{}}, b: {{penalty: 1}}}}}}"))
        )


LEVELS = ("[red]../../outside[/red]", "[/]", "/outside/<b>|$~")


def test_levels_of_any_name_stay_in_the_workspace_and_are_printed_as_they_are(
    tmp_path, databases, monkeypatch, capsys
):
    root = tmp_path / "a" / "workspace"
    study = make_workspace(root)
    shutil.copytree(databases, root / "runs")
    text = study.read_text().replace("tokens: 25_000", "tokens: 2_560")
    text = text[: text.index("axes:")].replace("helps?", "help [bold]?")
    fields = "".join(f"      {level!r}: {{lr: {number}e-3}}\n" for number, level in enumerate(LEVELS, start=1))
    study.write_text(f"{text}axes:\n  remedy:\n    settings:\n{fields}seeds: [0]\n")
    monkeypatch.chdir(root)
    said = {}
    for command in ("plan", "run", "status", "report"):
        main([command, "studies/small.yaml", *(["--workers", "1"] if command == "run" else [])])
        said[command] = capsys.readouterr().out
    for level in LEVELS:
        assert level in said["plan"]
        assert level in said["report"]
        assert level in (root / "results" / "small" / "tables" / "cells.csv").read_text()
    page = (root / "results" / "small" / "report.html").read_text()
    assert "<b>|" not in page
    assert "/outside/&lt;b&gt;|$~" in page
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["workspace"]
    assert {path.name for path in root.iterdir()} == {"data", "results", "runs", "studies"}
    assert not [path for path in root.rglob("*") if "outside" in path.name or "red" in path.name]
