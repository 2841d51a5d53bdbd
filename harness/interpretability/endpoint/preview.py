"""What a judge's calls will come to, before any is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from harness.interpretability.endpoint.asking import EXPLANATION, Call, expected, key_of, model_of
from harness.interpretability.endpoint.calls import Bill, Calls, total
from harness.interpretability.endpoint.client import CHARACTERS_PER_TOKEN, Reply
from harness.interpretability.endpoint.excerpts import Shown
from harness.interpretability.endpoint.prompts import Prompt, to_detect, to_explain, to_find_intruder, to_fuzz
from harness.study.interpretability import Interpretability
from harness.study.judges import Endpoint

KINDS_OF_NEGATIVES = 4
WITH_INTRUDER = 5  # excerpts


class DryRun:
    """Takes the place of an endpoint: adds up what the calls would come to that have no answer yet.

    Replies are those that are known; an unknown explanation is a text as long as explanations are.
    """

    def __init__(self, asked: Endpoint, path: Path) -> None:
        self._asked = asked
        self._path = path
        self.known = bill_of(path, asked)
        self._counted: set[str] = set()
        self.bill = Bill()

    def __call__(self, calls: Sequence[Call]) -> list[Reply]:
        keys = [key_of(self._asked, call) for call in calls]
        replies = self._answered(keys)
        for key, call in zip(keys, calls, strict=True):
            if key not in replies:
                if key not in self._counted:
                    self.bill = self.bill.plus(expected(call, self.known))
                self._counted.add(key)
                replies[key] = Reply(self._explanation if call.kind == "explanation" else None, 0, 0)
        return [replies[key] for key in keys]

    def _answered(self, keys: Sequence[str]) -> dict[str, Reply]:
        if not self._path.exists():
            return {}
        with closing(Calls(self._path)) as file:
            return file.find(list(dict.fromkeys(keys)))

    @property
    def _explanation(self) -> str:
        known = self.known.get("explanation")
        return _text(EXPLANATION if known is None else known.written / known.calls)


def bill_of(path: Path, asked: Endpoint | None = None) -> dict[str, Bill]:
    """By kind of call, what a study has been answered so far: by one model, or by all."""
    if not path.exists():
        return {}
    with closing(Calls(path)) as file:
        return file.bill(None if asked is None else model_of(asked))


def _text(tokens: float) -> str:
    return "x" * round(CHARACTERS_PER_TOKEN * tokens)


def at_most(asked: Interpretability, judge: Endpoint, known: Mapping[str, Bill]) -> Bill:
    """For one SAE whose sampled latents are all alive and fire in enough windows, on text of usual length."""
    excerpt = Shown(((_text(asked.window), True),))
    explanation = _text(EXPLANATION)
    detected = asked.windows * (1 + KINDS_OF_NEGATIVES)
    permuted = 2 * asked.windows

    def of(kind: str, prompt: Prompt, size: int, times: float = 1) -> Bill:
        return expected(Call(kind, prompt, size), known).times(times)

    def judged(excerpts: int, kind: str) -> Bill:
        calls = -(-excerpts // judge.per_question)
        shown = [excerpt] * -(-excerpts // calls)
        prompt = (to_detect if kind == "detection" else to_fuzz)(explanation, shown)
        return of(kind, prompt, len(shown), calls)

    shown = [excerpt] * min(judge.per_explanation, 2 * asked.to_explain)
    explained = of("explanation", to_explain(shown, [1] * len(shown)), len(shown))
    intruders = of("intruder", to_find_intruder([excerpt] * WITH_INTRUDER), WITH_INTRUDER, asked.windows // 4)
    answered = total(
        [judged(detected, "detection"), judged(permuted, "detection"), judged(asked.windows, "fuzzing"), intruders]
    )
    return explained.plus(answered.times(judge.repetitions)).times(asked.draws * asked.latents)
