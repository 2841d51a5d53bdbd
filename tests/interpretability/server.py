"""A server on this machine that speaks the protocol of OpenAI's chat completions, and fails in every way.

The model behind it reads the prompts as a person would: it explains a unit by the text that is marked most often,
and judges by whether that text is there.
"""

import json
import re
import socket
import threading
import time
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = "/v1/chat/completions"
TOKEN = re.compile(r" ?\w{1,6}| ?[^\w\s]{1,2}|\s+")


def tokens_of(text: str) -> int:
    """By a tokenizer of its own, which nobody else knows."""
    return len(TOKEN.findall(text))


def model(system: str, user: str) -> str:
    """What the model says; the same for the same prompt."""
    given = re.findall(r"^(\d+) (\".*\")$", user, re.MULTILINE)
    excerpts = [(int(number), json.loads(text)) for number, text in given]
    assert [json.dumps(text, ensure_ascii=False) for _, text in excerpts] == [text for _, text in given]
    marks = re.search(r"between (\S+) and (\S+), which are not part", system)
    marked = [_marked(text, *marks.groups()) if marks else [] for _, text in excerpts]
    if "have in common" in system:
        found = Counter(piece for pieces in marked for piece in pieces)
        return f"the text {found.most_common(1)[0][0]!r}, as in {len(excerpts)} excerpts"
    if "but one" in system:
        words = [set(re.findall(r"\w+", text)) for _, text in excerpts]
        shared = Counter(word for each in words for word in each)
        alike = [sum(shared[word] - 1 for word in each) / max(1, len(each)) for each in words]
        return str(alike.index(min(alike)) + 1)
    said = re.search(r"^Explanation: the text '(.*)', as in", user)
    wanted = re.compile(rf"\b{re.escape(said[1].strip())}\b" if said else "$^")
    looked_at = marked if marks else [[text] for _, text in excerpts]
    return json.dumps([int(any(wanted.search(piece) for piece in pieces)) for pieces in looked_at])


def _marked(text: str, opening: str, closing: str) -> list[str]:
    return [part.partition(closing)[0] for part in text.split(opening)[1:]]


class Server(ThreadingHTTPServer):
    """Use it in a `with` block. answered: the bodies of all requests that got a whole answer, in their order.

    faults: what to do with the next requests instead of answering them. hold_after: answers no more than so many,
    until `released`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, key: str | None = None, hold_after: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key, self.hold_after = key, hold_after
        self.lock = threading.Lock()
        self.faults: deque[str] = deque()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []  # path, headers, body
        self.times: list[float] = []
        self.answered: list[str] = []
        self.read = self.written = self.at_once = self.most_at_once = 0
        self.holding, self.released = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request, client_address):
        """Clients are killed on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            self.server.times.append(time.monotonic())
            fault = self.server.faults.popleft() if self.server.faults else None
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        self._hold()
        with self.server.lock:
            self.server.at_once -= 1
        if fault:
            self._fail(fault)
        else:
            self._answer(body)

    def _hold(self):
        with self.server.lock:
            limit = self.server.hold_after
            held = limit is not None and len(self.server.requests) > limit
        if held:
            self.server.holding.set()
            self.server.released.wait()

    def _answer(self, body: bytes):
        if self.path != PATH:
            return self._send(404, {"error": {"message": f"no such path: {self.path}"}})
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self._send(401, {"error": {"message": f"wrong key: {self.headers.get('Authorization')}"}})
        asked = json.loads(body)
        system, user = asked["messages"]
        assert (system["role"], user["role"]) == ("system", "user")
        return self._complete(body, model(system["content"], user["content"]))

    def _complete(self, body: bytes, content: str | None, usage: bool = True):
        asked = json.loads(body)
        read = sum(tokens_of(message["content"]) for message in asked["messages"])
        written = tokens_of(content or "")
        reply = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
            ],
        }
        if usage:
            total = read + written
            reply["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": total}
        with self.server.lock:
            self.server.answered.append(body.decode())
            self.server.read += read
            self.server.written += written
        self._send(200, reply)

    def _fail(self, fault: str):
        name, _, value = fault.partition(" ")
        if name == "status":
            status, _, after = value.partition(" ")
            return self._send(
                int(status), {"error": {"message": "not now"}}, {"Retry-After": after} if after else {}
            )
        if name == "drop":
            return self.connection.shutdown(socket.SHUT_RDWR)
        if name == "silence":
            time.sleep(float(value))
            return self.connection.shutdown(socket.SHUT_RDWR)
        if name == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.wfile.flush()
            return self.connection.shutdown(socket.SHUT_RDWR)
        if name == "redirect":
            return self._send(307, {}, {"Location": value})
        if name == "body":
            return self._send(200, json.loads(value) if value.startswith(("{", "[")) else value)
        body = self.server.requests[-1][2]
        return self._complete(body, None if name == "nothing" else value, usage=name != "uncounted")

    def _send(self, status: int, content: object, headers: dict[str, str] | None = None):
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
