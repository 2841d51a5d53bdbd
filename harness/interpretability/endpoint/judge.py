"""A language model behind an endpoint as a judge.

Shape letters: n windows, L tokens of a window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.fingerprint import code_fingerprint
from harness.interpretability.endpoint.asking import Ask, Call
from harness.interpretability.endpoint.excerpts import Shown, show
from harness.interpretability.endpoint.prompts import Prompt, to_detect, to_explain, to_find_intruder, to_fuzz
from harness.interpretability.endpoint.replies import explanation_in, pick_in, verdicts_in
from harness.interpretability.judging import Answer, Evidence, Explanation, Question
from harness.study.judges import RUNNING, Endpoint

STRENGTHS = 10
SILENT = 4  # at least one in so many of the excerpts that a latent is explained by is silent, if there are any
CODE = ("harness.interpretability.endpoint.judge:EndpointJudge",)


class _Part(NamedTuple):
    """Some excerpts of a question, by their numbers there, in the order in which they are shown."""

    question: int
    excerpts: NDArray[np.int64]
    call: Call


class EndpointJudge:
    """Explains and judges by calls, which `ask` makes: as many as it likes at once, all of one method together."""

    def __init__(self, asked: Endpoint, tokenizer: Any, ask: Ask) -> None:
        self._asked = asked
        self._tokenizer = tokenizer
        self._ask = ask

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The settings that decide what is asked of whom, and the code that asks it."""
        settings = self._asked.model_dump(mode="json", exclude=set(RUNNING))
        return {**settings, "code": code_fingerprint(CODE)}

    def explain(self, evidence: Sequence[Evidence]) -> list[Explanation]:
        """One per latent; without any text where the model gave none that is valid."""
        replies = self._ask([self._explaining(one) for one in evidence])
        return [Explanation(explanation_in(reply.text) or "") for reply in replies]

    def answer(self, questions: Sequence[Question], repetition: int = 0) -> list[Answer]:
        """One per question, whose excerpts are shuffled and shown in several calls.

        Both depend on the question and the repetition alone, so that what is asked beside it does not matter.
        Without a valid explanation nothing is asked, and no answer is valid.
        """
        answers: list[list[bool | None]] = [[None] * len(question.excerpts) for question in questions]
        parts = [part for number, one in enumerate(questions) for part in self._parts(number, one, repetition)]
        for part, reply in zip(parts, self._ask([part.call for part in parts]), strict=True):
            read = pick_in if part.call.kind == "intruder" else verdicts_in
            for excerpt, verdict in zip(part.excerpts, read(reply.text, len(part.excerpts)), strict=True):
                answers[part.question][excerpt] = verdict
        return [tuple(answer) for answer in answers]

    def _parts(self, number: int, question: Question, repetition: int) -> Iterator[_Part]:
        if question.score != "intruder" and (question.explanation is None or not question.explanation.text):
            return
        order = _shuffled(question, repetition)
        size = len(order) if question.score == "intruder" else self._asked.per_question
        for excerpts in np.array_split(order, -(-len(order) // size)):
            shown = [self._shown(question.excerpts[one].ids, question.excerpts[one].marked) for one in excerpts]
            yield _Part(number, excerpts, Call(question.score, _prompt(question, shown), len(shown), repetition))

    def _explaining(self, evidence: Evidence) -> Call:
        peaks = evidence.activations.max(1)
        chosen = _to_show(peaks, self._asked.per_explanation)
        strengths = np.ceil(STRENGTHS * peaks[chosen] / peaks.max())
        shown = [self._shown(evidence.ids[one], evidence.activations[one] > 0) for one in chosen]
        return Call("explanation", to_explain(shown, [int(strength) for strength in strengths]), len(shown))

    def _shown(self, ids: Sequence[int] | NDArray[np.int64], marked: Sequence[bool] | NDArray[np.bool_]) -> Shown:
        there = [(int(one), bool(mark)) for one, mark in zip(ids, marked, strict=True) if one >= 0]  # NO_TOKEN
        return show(self._tokenizer, [one for one, _ in there], [mark for _, mark in there])


def _prompt(question: Question, shown: Sequence[Shown]) -> Prompt:
    if question.score == "intruder":
        return to_find_intruder(shown)
    assert question.explanation is not None
    ask = to_detect if question.score == "detection" else to_fuzz
    return ask(question.explanation.text, shown)


def _shuffled(question: Question, repetition: int) -> NDArray[np.int64]:
    """The excerpts in an order that says nothing of which of them are right, another one at each repetition."""
    text = "" if question.explanation is None else question.explanation.text
    content = repr((question.score, text, [tuple(map(tuple, one)) for one in question.excerpts], repetition))
    seed = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8])
    return np.random.default_rng(seed).permutation(len(question.excerpts))


def _to_show(peaks: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Windows to explain a latent by: from the strongest to the weakest, evenly by rank; then silent ones."""
    active = np.flatnonzero(peaks > 0)
    silent = np.flatnonzero(peaks == 0)[: count // SILENT]
    order = active[np.argsort(-peaks[active], kind="stable")]
    ranks = np.linspace(0, len(order) - 1, min(len(order), count - len(silent)))
    return np.concatenate([order[np.unique(ranks.round().astype(np.int64))], silent])
