"""Calls of an endpoint within a budget, none of them twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from harness.interpretability.endpoint.calls import Answered, Bill, Calls, total
from harness.interpretability.endpoint.client import CHARACTERS_PER_TOKEN, Client, Reply, body_of
from harness.interpretability.endpoint.concurrent_calls import make_all
from harness.interpretability.endpoint.prompts import Prompt
from harness.study.judges import Endpoint

CALLS = "calls.db"  # in the folder of a study's latents
# Tokens of a reply, until replies say more: a line of text, a number and a comma per excerpt, or one number
EXPLANATION, NUMBER = 40, 2


class Call(NamedTuple):
    """A prompt, what it is for, about how many excerpts, and for the how many-th time it is asked, from 0."""

    kind: str
    prompt: Prompt
    excerpts: int
    repetition: int = 0

    @property
    def usual_reply(self) -> int:
        """Tokens."""
        return {"explanation": EXPLANATION, "intruder": NUMBER}.get(self.kind, NUMBER * self.excerpts + 1)


Ask = Callable[[Sequence[Call]], list[Reply]]


def expected(call: Call, bill: Mapping[str, Bill]) -> Bill:
    """What a call will come to, going by the calls of its kind on the bill, if there are any."""
    characters, known = call.prompt.characters, bill.get(call.kind)
    if known is None:
        return Bill(1, characters, characters / CHARACTERS_PER_TOKEN, call.usual_reply)
    return Bill(1, characters, characters * known.read / known.characters, known.written / known.calls)


def model_of(asked: Endpoint) -> str:
    """Stands for a model and how it is asked, on the bill."""
    how = {"url": asked.url, "model": asked.model, "temperature": asked.temperature, **asked.parameters}
    return json.dumps(how, sort_keys=True)


def beyond(asked: Endpoint, spent: Bill, reached: Bill) -> str | None:
    """Which limit of the budget is exceeded by what is reached, and how much of it is spent."""
    budget, prices = asked.budget, asked.prices
    limits: list[tuple[str, float | None, float, str]] = [
        ("calls", budget.calls, reached.calls, f"{spent.calls:,.0f} calls"),
        ("tokens", budget.tokens, reached.tokens, f"{spent.tokens:,.0f} tokens"),
    ]
    if prices is not None:
        limits.append(("price", budget.price, reached.price(prices), f"{spent.price(prices):,.4g}"))
    for name, limit, number, text in limits:
        if limit is not None and number > limit:
            return f"interpretability.judge.budget.{name}: {text} of {limit:,} are spent"
    return None


def key_of(asked: Endpoint, call: Call) -> str:
    """A hash of all that decides the reply."""
    content = {"url": asked.url, "repetition": call.repetition, **body_of(asked, call.prompt)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Asking:
    """Asks one endpoint; what it answers is kept in a file."""

    def __init__(self, asked: Endpoint, path: Path) -> None:
        self._asked = asked
        self._path = path
        self._client: Client | None = None  # whose connections stay open

    def __call__(self, calls: Sequence[Call]) -> list[Reply]:
        """The replies, in this order. Raises UserError where the endpoint gives none, or the budget is spent."""
        by_key = {key_of(self._asked, call): call for call in calls}
        with closing(Calls(self._path)) as file:
            replies = file.find(list(by_key))
            missing = {key: call for key, call in by_key.items() if key not in replies}
            if missing:
                replies |= self._make(missing, file)
        return [replies[key_of(self._asked, call)] for call in calls]

    def _make(self, calls: Mapping[str, Call], file: Calls) -> dict[str, Reply]:
        replies: dict[str, Reply] = {}
        model = model_of(self._asked)

        def refused(keys: Sequence[str]) -> str | None:
            known = file.bill(model)
            more = total(expected(calls[key], known) for key in keys)
            spent = total(file.bill().values())
            if (limit := beyond(self._asked, spent, spent.plus(more))) is None:
                return None
            return (
                f"{limit}, and the next call would exceed it; raise it and run the same command again to continue"
            )

        def keep(new: Mapping[str, Reply]) -> None:
            file.add(
                model, [Answered(key, calls[key].kind, calls[key].prompt.characters, new[key]) for key in new]
            )
            replies.update(new)

        prompts = {key: call.prompt for key, call in calls.items()}
        self._client = self._client or Client(self._asked)
        try:
            make_all(prompts, self._client, self._asked.concurrency, refused, keep)
        except BaseException:
            self._client = None  # it tries nothing again
            raise
        return replies
