"""Ledgers on real servers: the same results there, nobody else's study touched, no password told to anybody."""

import http.server
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib import import_module
from pathlib import Path

import optuna
import pytest

from harness.activations.store import ActivationStore
from harness.cli import main
from harness.errors import UserError
from harness.records.optuna_trials import OptunaTrials
from harness.secrets import masked, remember
from harness.study.known import known
from harness.study.spec import load_study
from harness.workspace import Workspace
from tests.conftest import make_workspace
from tests.sweep.servers import ESCAPED, PASSWORD, PostgreSQL
from tests.sweep.test_database_files import end_at_statement, in_a_child, open_books
from tests.test_cli import fails


def optuna_trials(server: PostgreSQL, study: Path, owner: str = "me") -> OptunaTrials:
    address = server.url().replace("postgresql://", "postgresql+psycopg://")
    return OptunaTrials(address, load_study(study), owner, f"{owner}:/there")


def names(server: PostgreSQL) -> list[str]:
    return sorted(name for (name,) in server.execute("SELECT study_name FROM studies"))


def test_a_sweep_on_postgresql_ends_like_one_on_files(postgresql, undisturbed, tmp_path, monkeypatch, capfd):
    make_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    for database in ("trials", "runs"):
        postgresql.execute(f"CREATE DATABASE {database}")
    monkeypatch.setenv("HARNESS_STORAGE", postgresql.url("trials"))
    monkeypatch.setenv("HARNESS_TRACKING", postgresql.url("runs"))
    main(["run", "studies/small.yaml", "--workers", "1"])
    for name in ("cells.jsonl", "curves.jsonl"):
        assert (Path("results/small") / name).read_bytes() == (undisturbed / "results/small" / name).read_bytes()
    states = postgresql.execute("SELECT state, count(*) FROM trials GROUP BY state", "trials")
    assert states == [("COMPLETE", 8)]
    assert not list(Path("runs").glob("*.db"))

    said = "".join(capfd.readouterr())
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (PASSWORD, ESCAPED):
        assert secret not in said
        assert secret.encode() not in written


def test_a_study_of_somebody_else_is_left_alone(postgresql, small_study):
    first = optuna_trials(postgresql, small_study, "somebody")
    first._study.enqueue_trial({}, user_attrs={"cell": "theirs"})
    first.close()
    with pytest.raises(UserError, match="study 'small' in Optuna's database belongs to somebody:/there"):
        optuna_trials(postgresql, small_study, "me")
    small_study.write_text(small_study.read_text().replace("sparse 2", "sparse 3"))
    with pytest.raises(UserError, match="belongs to somebody"):
        optuna_trials(postgresql, small_study, "me")
    assert postgresql.execute("SELECT count(*) FROM trials WHERE state = 'WAITING'") == [(1,)]

    optuna_trials(postgresql, small_study, "somebody").close()  # with other levels: the first is kept beside it
    later, earlier = sorted(names(postgresql), key=len, reverse=True)
    assert (earlier, later[:6]) == ("small", "small ")


def test_a_cell_that_was_trained_to_another_result_counts_once(postgresql, small_study):
    postgresql.execute("CREATE DATABASE again")
    store = ActivationStore.open(Path("data/random/activations"))
    cell = known(load_study(small_study), store.fingerprint).cells[0]
    address = postgresql.url("again").replace("postgresql://", "postgresql+psycopg://")
    mine = OptunaTrials(address, load_study(small_study), "me", "me:/there")
    for fvu in (0.5, 0.5, 0.6):
        mine.add(cell, {"state": "complete", "reason": None, "score": fvu, "heldout": {"fvu": fvu}}, [])
    mine.close()
    assert postgresql.execute("SELECT state FROM trials ORDER BY number", "again") == [("FAIL",), ("COMPLETE",)]
    assert postgresql.execute("SELECT value FROM trial_values", "again") == [(0.6,)]


def test_two_studies_may_be_started_together_on_a_fresh_server(postgresql, small_study):
    other = small_study.with_name("other.yaml")
    shutil.copy(small_study, other)
    addresses = []
    for database in ("fresh_trials", "fresh_runs"):
        postgresql.execute(f"CREATE DATABASE {database}")
        addresses.append(postgresql.url(database).replace("postgresql://", "postgresql+psycopg://"))
    workspace = Workspace(Path(), *addresses)
    workspace.owner()
    first = in_a_child(lambda: end_at_statement(small_study, 300, "fresh_runs", signal.SIGSTOP, workspace))
    os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOWAIT)
    second = in_a_child(lambda: open_books(other, workspace))
    time.sleep(0.5)  # whether or not it has come as far: it must go well
    os.kill(first.pid, signal.SIGCONT)
    for child in (first, second):
        child.join()
        assert child.exitcode == 0
    assert postgresql.execute("SELECT count(*) FROM experiments", "fresh_runs") == [(3,)]


def test_all_who_start_together_are_the_same_workspace(tmp_path):
    together = threading.Barrier(8)

    def owner(_number: int) -> str:
        together.wait()
        return Workspace(tmp_path).owner()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(owner, range(8)))) == 1


def test_one_controller_a_study_on_any_host(postgresql, small_study):
    """The lock is the connection's: a controller that dies, or whose connection does, frees it."""
    study = small_study.rename(small_study.with_name("locked.yaml"))
    with closing(optuna_trials(postgresql, study)) as first:
        with pytest.raises(UserError, match=rf"locked: already being run by process {os.getpid()} on \S+ since "):
            optuna_trials(postgresql, study)
        postgresql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert first._lock.held()
        with pytest.raises(UserError, match="already being run"):
            optuna_trials(postgresql, study)
    optuna_trials(postgresql, study).close()


def test_trials_are_found_again_whose_start_or_end_was_not_heard_of(postgresql, small_study):
    """As if the connection had gone after the commit: what has arrived is read, and nothing added twice."""
    study = small_study.rename(small_study.with_name("unheard.yaml"))
    store = ActivationStore.open(Path("data/random/activations"))
    one, two, *_ = known(load_study(study), store.fingerprint, lambda cell: None).cells
    with closing(optuna_trials(postgresql, study)) as ours:
        before = dict(ours._entries)
        ours.add(one, None, [])
        ours._entries = before
        ours.refresh()
        ours.add(one, None, [])
        ours.start(one.id)
        ours._entries[one.id].state = optuna.trial.TrialState.WAITING
        ours.refresh()
        assert ours.begun() == [one.id]
        ours.finish(one.id, {"state": "failed", "reason": "some"})
        ours.refresh()
        ours.finish(one.id, {"state": "failed", "reason": "some"})
        ours.add(two, None, [])
        ours.start(two.id)
        assert ours.begun() == [two.id]
        assert len(ours._study.trials) == 2


def test_a_failing_login_is_one_line_without_the_password(postgresql, small_study, capsys):
    line = fails(capsys, "run", str(small_study), "--storage", postgresql.url(password="wrong%2Fpass"))
    assert "Optuna's database at postgresql" in line
    assert "password authentication failed" in line
    assert "wrong" not in line


class Talkative(http.server.BaseHTTPRequestHandler):
    """A server whose errors quote everything that it was sent."""

    def do_GET(self) -> None:
        self.send_response(400)
        self.end_headers()
        self.wfile.write(f"cannot serve http://me:{PASSWORD}@here{self.path}, token {ESCAPED}".encode())

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_an_error_of_a_server_is_passed_on_without_the_password(small_study, databases, capfd, monkeypatch):
    shutil.copytree(databases, "runs")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Talkative) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HARNESS_TRACKING", f"http://me:{ESCAPED}@127.0.0.1:{server.server_port}")
        with pytest.raises(SystemExit) as stop:
            main(["run", str(small_study)])
        server.shutdown()
    assert stop.value.code == 2
    said = "".join(capfd.readouterr())
    assert f"MLflow at http://me:***@127.0.0.1:{server.server_port}" in said
    assert "cannot serve http://me:***@here/api" in said
    assert PASSWORD not in said
    assert ESCAPED not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("option", "url", "expected"),
    [
        (
            "--storage",
            "nonsense",
            "--storage: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE, got nonsense",
        ),
        ("--storage", "oracel://h/d", "--storage: expected sqlite:///FILE"),
        ("--storage", "http://host", "--storage: expected sqlite:///FILE"),
        ("--storage", "postgresql://me:hush@host:port/d", "got postgresql://me:***@host:port/d"),
        ("--storage", "sqlite://", "--storage: expected a file in a folder that exists"),
        ("--storage", "sqlite:///nowhere/x.db", "--storage: expected a file in a folder that exists"),
        ("--storage", "postgresql+psycopg2://h/d", "needs the package psycopg2, which is not installed"),
        ("--tracking", "http://", "--tracking: expected a URL such as http://HOST:PORT"),
        ("--tracking", "http://host:many", "--tracking: expected a URL such as http://HOST:PORT"),
        ("--tracking", "ftp://host", "--tracking: expected http://HOST:PORT, sqlite:///FILE"),
        ("--tracking", "sqlite:///runs/optuna.db", "--tracking: expected another database than --storage"),
        ("--tracking", "sqlite:///runs/../runs/optuna.db", "--tracking: expected another database than --storage"),
        ("--tracking", "sqlite:///linked/optuna.db", "--tracking: expected another database than --storage"),
        ("--storage", "sqlite:///:memory:", "--storage: expected a file in a folder that exists"),
        ("--storage", "sqlite:///file:x.db?uri=true", "%3F stands for a question mark"),
        ("--storage", "sqlite:///what?/x.db", "%3F stands for a question mark"),
    ],
)
def test_a_url_that_cannot_be_right_is_one_line(small_study, capsys, option, url, expected):
    Path("runs").mkdir()
    Path("linked").symlink_to("runs")
    line = fails(capsys, "run", str(small_study), option, url)
    assert expected in line
    assert "hush" not in line


def test_passwords_are_masked_in_any_text():
    text = "at postgresql://me:a@b:c@host/d and http://x:@y, not a@b or http://host/p@q"
    assert masked(text) == "at postgresql://me:***@host/d and http://x:***@y, not a@b or http://host/p@q"


def test_of_two_passwords_one_of_which_begins_the_other_nothing_is_left(monkeypatch):
    monkeypatch.setattr("harness.secrets._known", set())
    for password in ("hush", "hush-hush"):
        remember(f"postgresql://me:{password}@host/d")
    assert masked("refused hush-hush and hush") == "refused *** and ***"


def test_an_error_of_ours_shows_no_password_either(small_study, capsys, monkeypatch):
    def broken(source, workspace, console):
        raise RuntimeError(f"cannot open {workspace.storage} with h/ush")

    monkeypatch.setattr(import_module("harness.commands.run"), "prepare_missing", broken)
    with pytest.raises(SystemExit) as stop:
        main(["run", str(small_study), "--storage", "postgresql://me:h%2Fush@127.0.0.1:1/d"])
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert "RuntimeError: cannot open postgresql+psycopg://me:***@127.0.0.1:1/d with ***" in said
    assert "ush" not in said
