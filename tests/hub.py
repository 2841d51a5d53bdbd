"""A hub of one's own on this machine: what `huggingface_hub` asks for when an SAE is pushed, and no more."""

from __future__ import annotations

import base64
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_geheimgeheimgeheimgeheim"


class Hub:
    """Repositories by name; `files` are those of the commits, `asked` all requests."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.refuse_commits = 0  # a status
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid credentials"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/preupload/main|/commit/main|)", path.partition("?")[0])
        if found is None or found[1] not in self.private:
            return 404, {"error": "Repository not found"}
        if found[2] == "/preupload/main":
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return 200, {"files": modes}
        if found[2] == "/commit/main":
            return self._commit(found[1], body)
        return 200, {"id": found[1], "private": self.private[found[1]], "siblings": []}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.private:
            return 409, {"error": "You already created this model repo"}
        self.private[name], self.files[name] = asked["visibility"] == "private", {}
        return 200, {"url": f"{self.url}/{name}", "name": name}

    def _commit(self, name: str, body: bytes) -> tuple[int, Any]:
        if self.refuse_commits:
            return self.refuse_commits, {"error": f"no commits today for {TOKEN}"}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        url = f"{self.url}/{name}/commit/1"
        return 200, {"commitUrl": url, "commitOid": "1", "commitMessage": "", "hookOutput": "", "success": True}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, said = hub.answer(self.command, self.path, self.headers.get("Authorization"), body)
                content = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _serve

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler
