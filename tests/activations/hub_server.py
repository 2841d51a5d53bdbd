"""As much of a hub as `datasets` needs to stream the files of one dataset, on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "a" * 40  # what the branch `main` is at


@contextmanager
def serving(dataset: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve a dataset, all of whose files are in one folder. Yields what HF_ENDPOINT is to be."""
    handler = type("Handler", (_Handler,), {"dataset": dataset, "files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    dataset: str
    files: Mapping[str, bytes]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, api = self.path.partition("?")[0], f"/api/datasets/{self.dataset}"
        if "/resolve/" in path:
            self._file(path.partition("/resolve/")[2].partition("/")[2])
        elif not path.startswith(api):
            self._missing("RepoNotFound")
        elif path.startswith(f"{api}/tree/"):
            below = path.removeprefix(f"{api}/tree/").partition("/")[2]
            folders = {name.partition("/")[0] for name in self.files}
            self._json([self._entry(name) for name in self.files] if below else [_folder(f) for f in folders])
        elif path.removeprefix(api) in ("", "/revision/main", f"/revision/{COMMIT}"):
            self._json({"id": self.dataset, "sha": COMMIT, "siblings": [{"rfilename": f} for f in self.files]})
        else:
            self._missing("RevisionNotFound")

    def _file(self, name: str) -> None:
        if (content := self.files.get(name)) is None:
            return self._missing("EntryNotFound")
        headers = {"ETag": f'"{_sha1(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1 if last else None]
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
            return self._send(206, part, headers)
        return self._send(200, content, headers)

    def _entry(self, name: str) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(self.files[name]), "oid": _sha1(self.files[name])}

    def _json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _missing(self, what: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": what})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


def _folder(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "size": 0, "oid": "0" * 40}


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
