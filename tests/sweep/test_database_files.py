"""Databases that are spoiled, while they are made or afterwards: the next run has whole ones."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna_dashboard  # noqa: F401  a new study's note needs it: once here, instead of in every child
import pytest
from sqlalchemy import Engine, event

from harness.cli import main
from harness.errors import UserError
from harness.study.spec import load_study
from harness.sweep.study_recorder import StudyRecorder
from harness.workspace import Workspace
from tests.conftest import make_workspace
from tests.sweep.recorded import assert_each_cell_once
from tests.sweep.test_sweep import points, records
from tests.test_cli import fails

pytestmark = pytest.mark.chaos

Process = multiprocessing.context.ForkProcess


def open_books(study: Path, workspace: Workspace | None = None) -> list[str]:
    """Open both databases, as a run does, and close them; what is said."""
    said: list[str] = []
    recorder = StudyRecorder(load_study(study), workspace or Workspace(Path()), {}, said.append)
    recorder.close(complete=False)
    return said


def in_a_child(act: Callable[[], object]) -> Process:
    child = multiprocessing.get_context("fork").Process(target=act)
    child.start()
    return child


def at_statement(number: int, database: str, act: Callable[[], object]) -> None:
    """Do this before the statement of this number that is sent to a database while it is made."""
    sent = 0

    def count(connection, *_):
        nonlocal sent
        if database in str(connection.engine.url.database):
            sent += 1
            if sent == number:
                act()

    event.listen(Engine, "before_cursor_execute", count)


def send_myself(what: signal.Signals) -> None:
    os.kill(os.getpid(), what)


def end_at_statement(
    study: Path, number: int, database: str, how: signal.Signals, workspace: Workspace | None = None
) -> None:
    at_statement(number, database, lambda: send_myself(how))
    sys.stderr = io.StringIO()  # multiprocessing prints what a child dies of
    open_books(study, workspace)


def end_at_rename(study: Path, number: int) -> None:
    renamed = 0

    def count(name, arguments):
        nonlocal renamed
        if name == "os.rename" and str(arguments[0]).endswith(".db.new"):
            renamed += 1
            if renamed == number:
                send_myself(signal.SIGKILL)

    sys.addaudithook(count)
    open_books(study)


def assert_whole(root: Path = Path()) -> None:
    for name, table in (("optuna.db", "trials"), ("mlflow.db", "scorers")):
        with closing(sqlite3.connect(root / "runs" / name)) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert file.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]
            assert len(file.execute("SELECT version_num FROM alembic_version").fetchall()) == 1
    assert not list((root / "runs").glob(".*.new*"))
    assert not list((root / "runs").glob("*.unreadable*"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_end_while_the_databases_are_made_leaves_nothing_half_made(small_study, how):
    moments = (("optuna.db", 20), ("mlflow.db", 2), ("mlflow.db", 400), ("mlflow.db", 1200))
    for database, number in moments if how == signal.SIGKILL else moments[2:3]:
        child = in_a_child(lambda: end_at_statement(small_study, number, database, how))  # noqa: B023
        child.join()
        assert child.exitcode == (-signal.SIGKILL if how == signal.SIGKILL else 1), (database, number)
    assert open_books(small_study) == []
    assert_whole()


def test_a_kill_before_a_database_is_put_in_its_place_leaves_nothing_half_made(small_study):
    for number in (1, 2):
        child = in_a_child(lambda: end_at_rename(small_study, number))  # noqa: B023
        child.join()
        assert child.exitcode == -signal.SIGKILL
        Path("runs/optuna.db").unlink(missing_ok=True)
    assert open_books(small_study) == []
    assert_whole()


def test_two_studies_may_be_started_together_on_a_fresh_workspace(small_study):
    other = small_study.with_name("other.yaml")
    shutil.copy(small_study, other)
    first = in_a_child(lambda: end_at_statement(small_study, 300, "mlflow.db", signal.SIGSTOP))
    os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
    second = in_a_child(lambda: open_books(other))
    time.sleep(0.5)  # whether or not it has come as far: it must go well
    os.kill(first.pid, signal.SIGCONT)
    for child in (first, second):
        child.join()
        assert child.exitcode == 0
    assert_whole()


def test_a_full_disk_while_they_are_made_is_one_line(tmp_path, monkeypatch):
    study = make_workspace(tmp_path)
    runs = tmp_path / "runs"
    runs.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(runs)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nobody may mount a file system here")
    try:
        with pytest.raises(UserError, match=r"MLflow at /.*mlflow\.db: database or disk is full$"):
            open_books(study, Workspace(tmp_path))
        assert sorted(path.name for path in runs.iterdir() if not path.name.startswith(".")) == ["optuna.db"]
        subprocess.run(["mount", "-o", "remount,size=20m", str(runs)], check=True)
        assert open_books(study, Workspace(tmp_path)) == []
        assert_whole(tmp_path)
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=True)


def no_database(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def torn(path: Path) -> None:
    """Pages in the middle that never reached the disk."""
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(bytes(8 * 4096))


def half_made(path: Path) -> None:
    """As a version that changed tables in place left it when it was killed."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("DELETE FROM alembic_version")
        file.execute("DROP TABLE label_schemas")
        file.commit()


@pytest.mark.parametrize("spoil", [cut, torn, half_made, empty])
def test_a_database_that_cannot_be_read_is_kept_aside_and_made_anew(small_study, databases, spoil):
    shutil.copytree(databases, "runs")
    spoil(Path("runs/mlflow.db"))
    spoilt = Path("runs/mlflow.db").read_bytes()
    said = open_books(small_study)
    if spoil is empty:
        assert said == []
        return
    (line,) = said
    assert line.startswith(f"{Path('runs/mlflow.db').absolute()} cannot be read (")
    assert line.endswith("): kept as mlflow.db.unreadable-1, and made again from the cells' folders")
    if spoil is not half_made:
        assert Path("runs/mlflow.db.unreadable-1").read_bytes() == spoilt
    assert open_books(small_study) == []


def test_what_was_in_spoilt_databases_comes_back_from_the_cells(undisturbed, tmp_path, monkeypatch, capsys):
    root = tmp_path / "here"
    shutil.copytree(undisturbed, root)
    monkeypatch.chdir(root)
    no_database(Path("runs/optuna.db"))
    cut(Path("runs/mlflow.db"))
    main(["run", str(root / "studies/small.yaml"), "--workers", "1"])
    said = " ".join(capsys.readouterr().out.split())
    assert "optuna.db cannot be read (file is not a database): kept as optuna.db.unreadable-1" in said
    assert "mlflow.db cannot be read (" in said
    rows = records(root, "cells.jsonl")
    assert_each_cell_once(root, [row["cell"] for row in rows], points(root))
    assert (root / "results/small/study.json").read_bytes() == (
        undisturbed / "results/small/study.json"
    ).read_bytes()
    assert json.loads((root / "runs/small.asked.json").read_text())["file"] == "studies/small.yaml"


def test_a_journal_of_a_database_that_is_gone_spoils_no_new_one(small_study, databases):
    shutil.copytree(databases, "runs")
    child = in_a_child(lambda: die_in_a_transaction(Path("runs/mlflow.db")))
    child.join()
    assert Path("runs/mlflow.db-journal").stat().st_size
    Path("runs/mlflow.db").unlink()
    open_books(small_study)
    assert_whole()


def die_in_a_transaction(path: Path) -> None:
    file = sqlite3.connect(path)
    file.execute("PRAGMA cache_size = 1")  # pages reach the disk before the end
    file.execute("DELETE FROM alembic_version")
    file.execute("CREATE TABLE big AS SELECT randomblob(100000) UNION SELECT randomblob(100001)")
    send_myself(signal.SIGKILL)


def test_a_file_that_others_may_use_is_not_moved(small_study, capsys):
    Path("theirs.db").write_bytes(b"not a database" * 1000)
    line = fails(capsys, "run", str(small_study), "--storage", "sqlite:///theirs.db")
    expected = "cannot be read (file is not a database); expected a database, or no file of this name"
    assert line == f"harness: theirs.db: {expected}"
    assert Path("theirs.db").read_bytes() == b"not a database" * 1000
