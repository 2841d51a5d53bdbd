"""Calls of an endpoint within a budget, none of them twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.interpretability.endpoint.calls import Bill, Calls, total
from harness.interpretability.endpoint.client import CHARACTERS_PER_TOKEN, Client, Reply, body_of
from harness.interpretability.endpoint.concurrent_calls import make_all
from harness.interpretability.endpoint.prompts import Prompt
from harness.study.judges import Endpoint

WRITTEN = {"explanation": 40, "detection": 21, "fuzzing": 21, "intruder": 2}  # tokens, until answers say more


class Call(NamedTuple):
    """A prompt, what it is for, and for the how many-th time it is asked, from 0."""

    kind: str
    prompt: Prompt
    repetition: int = 0


Ask = Callable[[Sequence[Call]], list[Reply]]


def expected(call: Call, bill: Mapping[str, Bill]) -> Bill:
    """What a call will come to, going by the calls of its kind on the bill, if there are any."""
    characters, known = call.prompt.characters, bill.get(call.kind)
    if known is None:
        return Bill(1, characters, characters / CHARACTERS_PER_TOKEN, WRITTEN[call.kind])
    return Bill(1, characters, characters * known.read / known.characters, known.written / known.calls)


def model_of(asked: Endpoint) -> str:
    """Stands for a model and how it is asked, on the bill."""
    how = {"url": asked.url, "model": asked.model, "temperature": asked.temperature, **asked.parameters}
    return json.dumps(how, sort_keys=True)


class Asking:
    """Asks one endpoint; what it answers is kept in a file."""

    def __init__(self, asked: Endpoint, path: Path) -> None:
        self._asked = asked
        self._path = path

    def __call__(self, calls: Sequence[Call]) -> list[Reply]:
        """The replies, in this order. Raises UserError where the endpoint gives none, or the budget is spent."""
        by_key = {self._key(call): call for call in calls}
        with closing(Calls(self._path)) as file:
            replies = file.find(list(by_key))
            missing = {key: call for key, call in by_key.items() if key not in replies}
            if missing:
                replies |= self._make(missing, file)
        return [replies[self._key(call)] for call in calls]

    def _key(self, call: Call) -> str:
        """A hash of all that decides the reply."""
        content = {"url": self._asked.url, "repetition": call.repetition, **body_of(self._asked, call.prompt)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _make(self, calls: Mapping[str, Call], file: Calls) -> dict[str, Reply]:
        replies: dict[str, Reply] = {}
        model = model_of(self._asked)
        under_way: dict[str, Bill] = {}  # what each will come to

        def within_budget() -> Iterator[tuple[str, Prompt]]:
            for key, call in calls.items():
                under_way[key] = expected(call, file.bill(model))
                self._check_budget(total(file.bill().values()), total(under_way.values()))
                yield key, call.prompt

        def keep(key: str, reply: Reply) -> None:
            file.add(key, model, calls[key].kind, calls[key].prompt.characters, reply)
            del under_way[key]
            replies[key] = reply

        with closing(Client(self._asked)) as client:
            make_all(within_budget(), client, self._asked.concurrency, keep)
        return replies

    def _check_budget(self, spent: Bill, under_way: Bill) -> None:
        """Raise UserError if the calls under way, with the next one, may exceed it."""
        budget, prices = self._asked.budget, self._asked.prices
        both = spent.plus(under_way)
        limits = [
            ("calls", budget.calls, both.calls, f"{spent.calls:,.0f} calls"),
            ("tokens", budget.tokens, both.tokens, f"{spent.tokens:,.0f} tokens"),
        ]
        if prices is not None:
            limits.append(("price", budget.price, both.price(prices), f"{spent.price(prices):,.2f}"))
        for name, limit, reached, text in limits:
            if limit is not None and reached > limit:
                raise UserError(
                    f"interpretability.judge.budget.{name}: {text} of {limit:,} are spent, and the "
                    "next call would exceed it; raise it and run the same command again to continue"
                )
