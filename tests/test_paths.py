"""What is no folder, or cannot be written: one line before anything is made, whatever command meets it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.cli import main
from tests.conftest import make_workspace
from tests.test_cli import fails

STUDY, SOURCE = "studies/small.yaml", "studies/sources/random.yaml"
COMMANDS = {
    "plan": ["plan", STUDY],
    "status": ["status", STUDY],
    "report": ["report", STUDY],
    "summary": ["report", STUDY, "--step", "summary"],
    "run": ["run", STUDY],
    "corpus": ["prepare", SOURCE, "--step", "corpus"],
    "language model": ["prepare", SOURCE, "--step", "language_model"],
    "activations": ["prepare", SOURCE, "--step", "activations"],
    "evaluate": ["evaluate", STUDY],
    "ui": ["ui"],
}
OF_A_STUDY = ["plan", "status", "report", "summary", "run", "evaluate"]
OF_A_SOURCE = ["corpus", "language model", "activations"]
FOLDERS = {
    "data": list(COMMANDS),
    "runs": list(COMMANDS),
    "data/random": [*OF_A_STUDY, *OF_A_SOURCE],
    "data/random/activations": OF_A_STUDY,
    "runs/cells": OF_A_STUDY,
    "results": [*OF_A_STUDY, "language model"],
    "results/small": OF_A_STUDY,
    "results/random": ["language model"],
}
FILES = {
    "results/small/study.json": ["report", "run", "evaluate"],
    "results/small/cells.jsonl": ["run", "evaluate"],
    "results/small/curves.jsonl": ["run", "evaluate"],
    "results/random/language_model.json": ["language model"],
    "runs/small.lock": ["run", "evaluate"],
    "runs/small.asked.json": ["run", "evaluate"],
    "runs/small.finished": ["run", "evaluate"],
    "runs/small.log": ["run", "evaluate"],
}


def file(path: Path) -> None:
    path.write_text("")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


KINDS = {
    file: "expected a folder, found a file",
    loop: "expected a folder: Too many levels of symbolic links",
    dangling: "expected a folder, found a broken link",
}


def nothing_was_trained() -> bool:
    return not list(Path().glob("runs/cells/*"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_no_folder_is_one_line_for_every_command(small_study, capsys, folder, kind):
    path = Path(folder)
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind(path)
    for name in FOLDERS[folder]:
        assert fails(capsys, *COMMANDS[name]) == f"harness: {path}: {KINDS[kind]}", name
    assert nothing_was_trained()


@pytest.mark.parametrize("kind", KINDS)
def test_results_elsewhere_are_checked_too(small_study, capsys, kind):
    kind(Path("elsewhere"))
    assert fails(capsys, "run", STUDY, "--results", "elsewhere") == f"harness: elsewhere: {KINDS[kind]}"
    assert nothing_was_trained()


@pytest.mark.parametrize("path", FILES)
def test_a_folder_in_the_place_of_a_file_is_one_line(small_study, capsys, path):
    Path(path).mkdir(parents=True)
    for name in FILES[path]:
        assert fails(capsys, *COMMANDS[name]).startswith(f"harness: {path}: "), name
    assert nothing_was_trained()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def workspace(monkeypatch) -> Iterator[Path]:
    """A small study's workspace that anybody may read, in the current folder."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are for one user alone
        make_workspace(Path(folder))
        set_modes(Path(folder), 0o777)
        monkeypatch.chdir(folder)
        yield Path(folder)
        set_modes(Path(folder), 0o777)


def set_modes(top: Path, mode: int) -> None:
    for path in (top, *top.rglob("*")):
        if path.is_dir():
            path.chmod(mode)


UNWRITABLE = {"runs": ["run"], "results": ["run", "language model"], "data/random": OF_A_SOURCE}


@pytest.mark.parametrize("folder", UNWRITABLE)
def test_what_cannot_be_written_is_one_line_before_anything_is_trained(workspace, capsys, folder):
    Path(folder).mkdir(exist_ok=True)
    set_modes(Path(folder), 0o555)
    with as_nobody():
        for name in UNWRITABLE[folder]:
            line = fails(capsys, *COMMANDS[name])
            assert line.startswith(f"harness: {folder}"), line
            assert line.endswith(": expected a folder to write to: Permission denied")
    assert nothing_was_trained()


def test_a_colleagues_workspace_can_be_looked_at(workspace, undisturbed, capsys):
    main([*COMMANDS["report"], "--results", str(undisturbed / "results/small")])
    for name in ("runs", "results"):
        shutil.copytree(undisturbed / name, name, ignore=shutil.ignore_patterns("*.db"))
    begun = next(path for path in workspace.glob("runs/cells/*/recipe.json") if '"seed": 0' in path.read_text())
    begun.with_name("result.json").unlink()
    before = sorted(workspace.rglob("*"))
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    workspace.chmod(0o555)
    capsys.readouterr()
    with as_nobody():
        for name in ("status", "plan", "summary"):
            main(COMMANDS[name])
    shown = " ".join(capsys.readouterr().out.split())
    assert "7 complete · 1 begun" in shown
    assert "7 done, 1 to run" in shown
    assert sorted(workspace.rglob("*")) == before
