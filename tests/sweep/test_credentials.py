"""A password in a URL reaches the server that it is for, and nobody else: no terminal, file or other process."""

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from werkzeug.serving import make_server

from harness.cli import main
from tests.conftest import make_workspace
from tests.sweep.servers import ESCAPED, PASSWORD, free_port
from tests.test_cli import fails

SECRETS = [secret.encode() for secret in (PASSWORD, ESCAPED, base64.b64encode(f"me:{PASSWORD}".encode()).decode())]


def children() -> list[Path]:
    """Processes that this one has started, by their folders in /proc."""
    pids: list[str] = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            pids += (task / "children").read_text().split()
    return [Path("/proc") / pid for pid in pids]


class Guarded:
    """MLflow's own server, in this process, behind a login; looks at our worker processes at every request."""

    def __init__(self) -> None:
        from mlflow.server import app

        self._app = app
        self.answered = self.looked_at = 0
        self.told: set[str] = set()

    def __call__(self, environment, start_response):
        if environment.get("HTTP_AUTHORIZATION", "").encode() != b"Basic " + SECRETS[-1]:
            start_response("401 UNAUTHORIZED", [("Content-Type", "text/plain")])
            return [b"the login " + environment.get("HTTP_AUTHORIZATION", "").encode() + b" is wrong"]
        self.answered += 1
        for process in children():
            for name in ("cmdline", "environ"):
                try:
                    known = (process / name).read_bytes()
                except OSError:  # it has just ended
                    continue
                self.looked_at += bool(known)
                self.told |= {name for secret in SECRETS if secret in known}
        return self._app(environment, start_response)


@pytest.fixture
def guarded(tmp_path_factory, monkeypatch) -> Iterator[tuple[Guarded, int]]:
    place = tmp_path_factory.mktemp("server")
    monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{place / 'mlflow.db'}")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(place / "artifacts"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # the server sets it
    app = Guarded()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.log = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield app, server.server_port
    server.shutdown()
    server.server_close()
    mlflow.set_tracking_uri(None)


def test_a_tracking_password_is_told_to_its_server_alone(guarded, tmp_path, monkeypatch, capfd):
    app, port = guarded
    study = make_workspace(tmp_path)
    text = study.read_text().replace("25_000", "6_400").replace("[1e-3, 4e-3]", "[1e-3]")
    study.write_text(text.replace("[0, 1]", "[0]"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_TRACKING", f"http://me:{ESCAPED}@127.0.0.1:{port}")
    main(["run", "studies/small.yaml", "--workers", "1"])
    said = "".join(capfd.readouterr())
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    written += Path(os.environ["_MLFLOW_SERVER_FILE_STORE"].removeprefix("sqlite:///")).read_bytes()
    assert app.answered
    assert app.looked_at
    assert not app.told
    for secret in SECRETS:
        assert secret.decode() not in said
        assert secret not in written
    assert "View run" not in said


def test_a_wrong_tracking_password_is_one_line_without_it(guarded, small_study, capsys, monkeypatch):
    _, port = guarded
    monkeypatch.setenv("HARNESS_TRACKING", f"http://me:wrong%2Fpass@127.0.0.1:{port}")
    line = fails(capsys, "run", str(small_study))
    assert line.startswith(f"harness: MLflow at http://me:***@127.0.0.1:{port}: ")
    assert "the login Basic *** is wrong" in line
    assert "401" in line
    assert "wrong/pass" not in line
    assert "wrong%2Fpass" not in line
    assert base64.b64encode(b"me:wrong/pass").decode() not in line


@pytest.mark.parametrize(
    ("option", "url", "expected"),
    [
        (
            "--tracking",
            "http://me:h%2Fush@127.0.0.1:{port}",
            "MLflow at http://me:***@127.0.0.1:{port}: Connection",
        ),
        (
            "--storage",
            "postgresql://me:h%2Fush@127.0.0.1:{port}/d",
            "Optuna's database at postgresql+psycopg://me:***@",
        ),
        (
            "--tracking",
            "postgresql://me:h%2Fush@127.0.0.1:{port}/d",
            "MLflow at postgresql+psycopg://me:***@127.0.0.1",
        ),
    ],
)
def test_a_server_that_is_not_there_is_one_plain_line(small_study, capfd, option, url, expected):
    port = free_port()
    with pytest.raises(SystemExit) as stop:
        main(["run", str(small_study), option, url.format(port=port)])
    assert stop.value.code == 2
    said = "".join(capfd.readouterr())
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"harness: {expected.format(port=port)}")
    assert "Connection refused" in " ".join(said.split())
    assert "ush" not in said
    assert not any(word in said for word in ("sqlalche", "psycopg.", "HTTPConnection", "Traceback", "Errno"))
