"""Folders of any name, and study files by any spelling of their path."""

import json
import shutil
from pathlib import Path

import pytest

from harness.cli import main
from harness.workspace import Workspace
from tests.conftest import make_workspace
from tests.sweep.test_database_files import assert_whole, open_books
from tests.test_cli import fails

NAMES = ("a?b", "a%20b", "-a b;&#ä→{x}:y@[z]")


@pytest.mark.chaos
def test_databases_lie_in_their_workspace_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        study = make_workspace(Path(name))
        open_books(study, Workspace(Path(name)))
        assert_whole(Path(name))
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)


@pytest.mark.parametrize("given", ["a?b.db", "a%20b.db", "ä b#.db"])
def test_a_given_file_may_have_any_name_in_a_url(small_study, given):
    from harness.databases import sqlite_file
    from harness.records.urls import storage_url, tracking_url

    escaped = given.replace("%", "%25").replace("?", "%3F")
    for url in (storage_url, tracking_url):
        assert sqlite_file(url(f"sqlite:///{escaped}", "--storage")) == Path(given)


def test_a_study_is_the_same_by_any_spelling_of_its_path(small_study, capsys, monkeypatch):
    results = Path("results/small")
    results.mkdir(parents=True)
    (results / "study.json").write_text('{"file": "studies/small.yaml"}')
    Path("runs").mkdir()
    Path("runs/small.asked.json").write_text('{"file": "studies/small.yaml"}')
    Path("linked").symlink_to("studies")
    spellings = (
        "./studies/small.yaml",
        "studies/../studies/small.yaml",
        "linked/small.yaml",
        small_study.resolve(),
    )
    for spelling in spellings:
        assert "expected the results of a sweep" in fails(capsys, "report", str(spelling))
    root = Path.cwd()
    monkeypatch.chdir("studies")
    assert "expected the results of a sweep" in fails(capsys, "--root", str(root), "report", "small.yaml")
    assert "expected the results of a sweep" in fails(capsys, "--root", "..", "report", "small.yaml")


def test_a_study_of_a_name_that_another_file_has_is_refused(small_study, capsys):
    Path("runs").mkdir()
    Path("runs/small.asked.json").write_text(json.dumps({"file": "studies/small.yaml"}))
    shutil.copytree("studies", "more")
    for command in ("run", "plan", "status"):
        line = fails(capsys, command, "more/small.yaml")
        expected = "expected a file of another name: the study 'small' of this workspace is studies/small.yaml"
        assert line == f"harness: more/small.yaml: {expected}"
    small_study.unlink()  # the file has moved
    Path("runs/small.asked.json").write_text(
        json.dumps({"file": "studies/small.yaml", "source": None, "cells": {}})
    )
    main(["plan", "more/small.yaml"])
