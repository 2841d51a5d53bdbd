"""Databases, servers and disks that are away for a while, for real: the sweep goes on, and nothing is lost."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.commands.command import LEAST_PATIENCE
from tests.conftest import make_workspace
from tests.sweep.recorded import assert_each_cell_once
from tests.sweep.servers import ESCAPED, PASSWORD, MlflowServer
from tests.sweep.test_sweep import FILES, RUN, points, records, wait_until

ROOM = 24 * 2**20  # bytes of the disk that gets full


class Sweep:
    """`harness run` in a workspace, and what it has said so far."""

    def __init__(self, root: Path, log: Path, *options: str) -> None:
        self._root, self._log = root, log
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                [*RUN, *options], cwd=root, stdout=said, stderr=said, start_new_session=True
            )

    @property
    def said(self) -> str:
        return " ".join(self._log.read_text().split())

    def wait_for(self, *texts: str) -> None:
        wait_until(lambda: self._process.poll() is not None or all(text in self.said for text in texts))
        assert all(text in self.said for text in texts), self.said

    def results(self) -> int:
        return len(list(self._root.glob("runs/cells/*/result.json")))

    def wait_for_results(self, number: int) -> None:
        wait_until(lambda: self.results() >= number or self._process.poll() is not None)
        assert self._process.poll() is None, self.said

    def finish(self) -> None:
        self._process.wait(120)
        assert self._process.returncode == 0, self.said
        assert "Traceback" not in self.said

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def assert_as_undisturbed(root: Path, undisturbed: Path) -> None:
    for name in FILES:
        expected = (undisturbed / "results/small" / name).read_bytes()
        assert (root / "results/small" / name).read_bytes() == expected, name
    assert_each_cell_once(root, [row["cell"] for row in records(root, "cells.jsonl")], points(root))


@pytest.mark.chaos
def test_servers_that_are_away_are_told_later(undisturbed, postgresql, tmp_path, monkeypatch):
    root = tmp_path / "here"
    make_workspace(root)
    tracking = MlflowServer(tmp_path / "mlflow")
    monkeypatch.setenv("HARNESS_STORAGE", postgresql.url())
    monkeypatch.setenv("HARNESS_TRACKING", tracking.url)
    sweep = Sweep(root, tmp_path / "said")
    try:
        sweep.wait_for_results(1)
        postgresql.stop()
        tracking.kill()
        before = sweep.results()
        sweep.wait_for("Optuna's database at postgresql", "MLflow at http://127.0.0.1", "Training goes on")
        sweep.wait_for_results(before + 1)
        postgresql.start()
        tracking.start()
        sweep.wait_for("/optuna is back after", f"MLflow at {tracking.url} is back after")
        sweep.finish()
        assert_as_undisturbed(root, undisturbed)
    finally:
        sweep.kill()
        tracking.kill()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(secret.encode() in written for secret in (PASSWORD, ESCAPED))


@pytest.mark.chaos
def test_files_that_somebody_else_has_locked_are_told_later(undisturbed, databases, tmp_path):
    root = tmp_path / "here"
    make_workspace(root)
    shutil.copytree(databases, root / "runs")
    sweep = Sweep(root, tmp_path / "said")
    try:
        sweep.wait_for_results(1)
        with closing(sqlite3.connect(root / "runs/optuna.db", timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            sweep.wait_for("optuna.db cannot be reached: ", "database is locked", "Training goes on")
        sweep.wait_for("optuna.db is back after")
        sweep.finish()
    finally:
        sweep.kill()
    assert_as_undisturbed(root, undisturbed)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nobody may mount a file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.chaos
def test_a_disk_that_is_full_is_waited_for(undisturbed, databases, small_disk, tmp_path):
    root = small_disk / "here"
    make_workspace(root)
    shutil.copytree(databases, root / "runs")
    sweep = Sweep(root, tmp_path / "said", "--patience-seconds", str(LEAST_PATIENCE))
    try:
        sweep.wait_for_results(1)
        ballast = [small_disk / f"ballast-{number}" for number in range(4)]
        fill(ballast[0])
        sweep.wait_for("the disk is full: training waits for space to write runs/cells/")
        for more in ballast[1:]:  # cells that end now delete their checkpoints
            fill(more)
            before = sweep.results()
            time.sleep(LEAST_PATIENCE + 1)
            if sweep.results() == before:
                break
        assert sweep.results() == before
        for file in ballast:
            file.unlink(missing_ok=True)
        sweep.wait_for("there is space on the disk again: training goes on")
        sweep.finish()
        assert "hangs" not in sweep.said
        assert sweep.said.count("the disk is full: training waits") == 1
        assert "retried" not in sweep.said
    finally:
        sweep.kill()
    assert_as_undisturbed(root, undisturbed)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as ballast:
        for size in (2**20, 2**12, 1):
            try:
                while ballast.write(b"x" * size):
                    pass
            except OSError:
                continue
