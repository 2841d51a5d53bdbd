"""Who explains latents and judges explanations: the key `interpretability.judge` of a study file."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field

from harness.yaml_file import Strict, YamlFile, shown

WHERE = ("interpretability", "judge")
OURS = ("model", "messages", "temperature", "n", "stream", "stream_options")  # fields of a request that we set
# Settings that decide when and at what price answers come, not what they are
RUNNING = frozenset({"key_variable", "concurrency", "timeout", "retries", "prices", "budget"})
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")
Text = Annotated[str, Field(min_length=1, max_length=1_000)]


class Rules(Strict):
    """The judge that is built in: rules over tokens, learned on one half of the documents. Deterministic."""

    kind: Literal["rules"] = "rules"
    repetitions: ClassVar[int] = 1  # it would only repeat itself


class Prices(Strict):
    """Of a million tokens, in whatever currency: those that the model reads, and those that it writes."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]


class Budget(Strict):
    """What all calls of a study may come to, over all its runs. None: no limit."""

    calls: Annotated[int, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None  # read and written
    price: Annotated[float, Field(ge=0)] | None = None  # by `prices`


class Endpoint(Strict):
    """A language model behind an OpenAI-compatible endpoint: vLLM, Ollama, a hosted one.

    url: what `/chat/completions` follows. key_variable: the variable of the environment that holds the key.
    temperature: null leaves it to the endpoint. parameters: further fields of each request, such as `max_tokens`.
    """

    kind: Literal["endpoint"]
    url: Text
    model: Text
    key_variable: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    parameters: dict[str, Any] = Field(default={})
    repetitions: Annotated[int, Field(ge=1, le=20)] = 1  # how often each question is asked
    per_question: Annotated[int, Field(ge=1, le=50)] = 10  # excerpts per call, at most
    per_explanation: Annotated[int, Field(ge=2, le=200)] = 20  # excerpts that a latent is explained by, at most
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8  # calls under way at once
    timeout: Annotated[float, Field(gt=0, le=3_600)] = 120.0  # seconds without a byte
    retries: Annotated[int, Field(ge=0, le=100)] = 6  # of a call that fails in a way that may pass
    prices: Prices | None = None
    budget: Budget = Budget()


Judging = Annotated[Rules | Endpoint, Field(discriminator="kind")]
KINDS: dict[str, type[Rules] | type[Endpoint]] = {"rules": Rules, "endpoint": Endpoint}


def read_judge(file: YamlFile, raw: object) -> Rules | Endpoint:
    """What stands under the key. Raises UserError."""
    if not isinstance(raw, dict):
        raise file.error(WHERE, f"expected keys and values, such as 'kind: endpoint', got {shown(raw)}")
    kind = raw.get("kind", "rules")
    if not isinstance(kind, str) or kind not in KINDS:
        raise file.error((*WHERE, "kind"), f"expected one of {', '.join(KINDS)}, got {shown(kind)}")
    found: Rules | Endpoint = file.check(KINDS[kind], raw, WHERE)
    if isinstance(found, Endpoint):
        _check(file, found)
    return found


def _check(file: YamlFile, asked: Endpoint) -> None:
    """What no single key says. Raises UserError."""
    _check_url(file, asked.url)
    # Not quoted, and no small letters: it may be the key itself
    if asked.key_variable is not None and not VARIABLE.fullmatch(asked.key_variable):
        where = (*WHERE, "key_variable")
        raise file.error(where, "expected the name of a variable in capital letters, such as OPENAI_API_KEY")
    for name in asked.parameters:
        if name in OURS:
            raise file.error((*WHERE, "parameters", name), "expected a field that is not set elsewhere")
    if asked.budget.price is not None and asked.prices is None:
        raise file.error((*WHERE, "budget", "price"), "expected 'prices' of the judge, too: input and output")


def _check_url(file: YamlFile, url: str) -> None:
    """Credentials would be copied into results with it. Raises UserError."""
    where = (*WHERE, "url")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or url != url.strip() or not url.isprintable():
        raise file.error(where, "expected a URL such as http://localhost:8000/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise file.error(where, "expected a URL without user, password, '?' and '#'; a key comes by key_variable")
    if parts.path.rstrip("/").endswith("/completions"):
        raise file.error(where, "expected the part before '/chat/completions'")
