"""Calls of an OpenAI-compatible endpoint: POST {url}/chat/completions."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from itertools import chain, islice
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, Field, ValidationError

from harness.backoff import backoff
from harness.errors import UserError
from harness.interpretability.endpoint.key import key_for
from harness.interpretability.endpoint.prompts import Prompt
from harness.secrets import masked
from harness.study.judges import Endpoint

CHARACTERS_PER_TOKEN = 4.0  # where the endpoint does not say how many tokens there were
LONGEST_PAUSE = 60.0  # seconds between two tries, unless the endpoint asks for more
LONGEST_WAIT = 600.0  # seconds that an endpoint may ask for
CONNECT = 10.0  # seconds
PASSING = {408, 409, 425, 429}  # statuses besides 5xx after which the same call may work
CUT = 300  # characters of what an endpoint says


class Reply(NamedTuple):
    """What the model says, None if it says nothing, and how many tokens it has read and written."""

    text: str | None
    read: int
    written: int


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class Client:
    """Calls one endpoint, from any number of threads; follows no redirects, so that the key goes nowhere else."""

    def __init__(self, asked: Endpoint) -> None:
        self._asked = asked
        self._key = key_for(asked)
        self._not_before = 0.0  # as the endpoint asks
        self.stopped = Event()  # set: nobody waits any longer
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(asked.timeout, connect=min(CONNECT, asked.timeout), pool=None),
            limits=httpx2.Limits(max_connections=asked.concurrency),
            trust_env=not _is_local(asked.url),  # proxies are for other machines
        )

    def close(self) -> None:
        self._http.close()

    def complete(self, prompt: Prompt) -> Reply:
        """The model's reply; tried again where that may help. Raises UserError if it does not."""
        url = f"{self._asked.url.rstrip('/')}/chat/completions"
        body = body_of(self._asked, prompt)
        for pause in chain(islice(_pauses(), self._asked.retries), [None]):
            self._wait()
            reply, why, asked_for = self._try(url, body)
            if reply is not None:
                return reply
            if pause is None or self.stopped.is_set() or asked_for > LONGEST_WAIT:
                break
            self._not_before = max(self._not_before, time.monotonic() + asked_for)
            self.stopped.wait(max(pause, asked_for))
        raise UserError(f"{url}: {why}; run the same command again to continue")

    def _try(self, url: str, body: dict[str, Any]) -> tuple[Reply | None, str, float]:
        """The reply; or why there is none, and after how many seconds the endpoint wants to be asked again."""
        try:
            response = self._http.post(url, json=body)
        except httpx2.TransportError as failure:
            return None, masked(f"no answer: {type(failure).__name__}: {failure}".rstrip(": ")), 0.0
        if response.is_success:
            reply = _reply(response, body)
            return reply, "expected a chat completion, got " + _said(response), 0.0
        why = f"status {response.status_code}: {_said(response)}"
        if response.status_code not in PASSING and response.status_code < 500:
            raise UserError(f"{url}: {why}")
        wait = _seconds(response.headers.get("Retry-After", ""))
        return None, why + (f"; it asks to come back in {wait:.0f} seconds" if wait else ""), wait

    def _wait(self) -> None:
        """Until the endpoint wants calls again, whichever call it has said so to."""
        if (seconds := self._not_before - time.monotonic()) > 0:
            self.stopped.wait(seconds)


def body_of(asked: Endpoint, prompt: Prompt) -> dict[str, Any]:
    """The request's body; equal ones get equal answers, as far as the model is deterministic."""
    temperature = {} if asked.temperature is None else {"temperature": asked.temperature}
    return {"model": asked.model, "messages": prompt.messages, **temperature, **asked.parameters}


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _pauses() -> Iterator[float]:
    """Seconds between tries, each a little different: calls that failed together ought not to return together."""
    return (pause * random.uniform(0.5, 1) for pause in backoff(LONGEST_PAUSE))


def _reply(response: httpx2.Response, body: dict[str, Any]) -> Reply | None:
    try:
        found = _Completion.model_validate_json(response.content)
    except ValidationError:
        return None
    text = found.choices[0].message.content
    text = None if text is None else text.encode("utf-8", "replace").decode()  # without half characters
    if found.usage is not None:
        return Reply(text, found.usage.prompt_tokens, found.usage.completion_tokens)
    read = sum(len(message["content"]) for message in body["messages"])
    return Reply(text, round(read / CHARACTERS_PER_TOKEN), round(len(text or "") / CHARACTERS_PER_TOKEN))


def _said(response: httpx2.Response) -> str:
    """What an answer that is none says, in one line."""
    try:
        error = response.json()["error"]
        said = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError):
        said = response.text
    line = masked(" ".join(str(said).split()))
    return repr(line if len(line) <= CUT else line[:CUT] + " ...")


def _seconds(retry_after: str) -> float:
    """What the header asks for, in seconds or as a date; 0 where it says neither."""
    try:
        if retry_after.strip().isdigit():
            return float(retry_after)
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
