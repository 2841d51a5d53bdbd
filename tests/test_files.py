"""Files that are whole or not there, in JSON, and how long a full disk is waited for."""

from __future__ import annotations

import errno
import json
import math
import os
from itertools import islice
from pathlib import Path

import pytest

from harness import files
from harness.backoff import backoff
from harness.files import write_json, write_json_lines


def test_each_pause_is_twice_the_one_before_up_to_the_longest():
    assert list(islice(backoff(3.0), 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_json_is_read_back_and_a_figure_that_is_not_finite_leaves_the_file_as_it_was(tmp_path: Path):
    path = tmp_path / "new" / "figures.json"
    write_json(path, {"fvu": 0.1, "arm": "größer"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"fvu": math.nan})
    assert json.loads(path.read_text(encoding="utf-8")) == {"fvu": 0.1, "arm": "größer"}
    assert [file.name for file in path.parent.iterdir()] == ["figures.json"]


def test_records_are_written_one_per_line(tmp_path: Path):
    write_json_lines(tmp_path / "points.jsonl", [{"step": 1}, {"step": 2}])
    assert (tmp_path / "points.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_what_takes_the_place_of_a_file_is_on_the_disk_before(tmp_path: Path, monkeypatch):
    """Else a power cut after the rename leaves neither the old content nor the new one."""
    path, synced = tmp_path / "figures.json", []

    def sync(descriptor: int) -> None:
        synced.append(path.exists())

    monkeypatch.setattr(os, "fsync", sync)
    write_json(path, {})
    assert synced == [False, True]  # the new file, then, renamed, its folder


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT])
def test_while_the_disk_is_full_nothing_is_left_on_it_and_the_file_is_written_when_it_is_not(
    tmp_path: Path, monkeypatch, reason
):
    path, there = tmp_path / "figures.json", []
    sync = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(reason, os.strerror(reason))

    def freed(_seconds: float) -> None:
        there.extend(tmp_path.iterdir())
        monkeypatch.setattr(os, "fsync", sync)

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(files.time, "sleep", freed)
    monkeypatch.setattr(files, "LONGEST_PAUSE", 0.01)
    write_json(path, {"fvu": 0.1})
    assert json.loads(path.read_text()) == {"fvu": 0.1}
    assert there == []
