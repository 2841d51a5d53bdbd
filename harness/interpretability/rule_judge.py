"""The judge that is built in: explains latents by rules over tokens. Deterministic; needs no network.

Shape letters: n windows, L tokens of a window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.judging import Answer, Evidence, Excerpt, Explanation, Question
from harness.interpretability.rule_learning import learn
from harness.interpretability.rules import OFFSETS, Place, describe, matches
from harness.interpretability.windows import NO_TOKEN

Sign = tuple[Place, int]  # a token, and where it stands


class RuleJudge:
    """word: the text of a token. ids: those of the whole text, any shape, which say how common tokens are."""

    def __init__(self, word: Callable[[int], str], ids: NDArray[np.int64]) -> None:
        self._word = cache(word)
        counts = np.maximum(1, np.bincount(ids.ravel()))
        self._share: NDArray[np.float64] = counts / counts.sum()

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"kind": "rules"}

    def explain(self, evidence: Sequence[Evidence]) -> list[Explanation]:
        """The rule of each latent, in words, too."""
        rules = (learn(each.ids, each.activations) for each in evidence)
        return [Explanation(describe(rule, self._word), rule) for rule in rules]

    def answer(self, questions: Sequence[Question], repetition: int = 0) -> list[Answer]:
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Answer:
        if question.explanation is None:
            picked = self._intruder(question.excerpts)
            return tuple(number == picked for number in range(len(question.excerpts)))
        ids = np.array([excerpt.ids for excerpt in question.excerpts], np.int64)
        found = matches(question.explanation.rule, ids)
        if question.score == "detection":
            return _answer(np.any(found, axis=1))
        # Highlights are right where the rule holds more often than on the other tokens of the window
        marked = np.array([excerpt.marked for excerpt in question.excerpts], bool)
        others = ~marked & (ids != NO_TOKEN)
        inside = (found & marked).sum(1) * others.sum(1)
        outside = (found & others).sum(1) * marked.sum(1)
        return _answer(inside > outside)

    def _intruder(self, excerpts: Sequence[Excerpt]) -> int:
        """The excerpt that shares least with the others, by how unlikely it is to share that by chance."""
        marks = sum(sum(excerpt.marked) for excerpt in excerpts) / len(excerpts)
        signs = [_signs(excerpt) for excerpt in excerpts]
        shared = Counter(sign for each in signs for sign in each)
        weights = {
            sign: (count - 1) * self._surprise(sign, marks, len(excerpts[0].ids))
            for sign, count in shared.items()
            if count > 1
        }
        alike = [sum(weights.get(sign, 0.0) for sign in sorted(each)) for each in signs]
        return int(np.argmin(alike))

    def _surprise(self, sign: Sign, marks: float, length: int) -> float:
        """-log of the expected number of such tokens in an excerpt, 0 where more than one is expected."""
        place, token = sign
        expected = self._share[token] * (length if place == "window" else marks)
        return max(0.0, -float(np.log(expected)))


def _answer(found: NDArray[np.bool_]) -> Answer:
    return tuple(bool(each) for each in found)


def _signs(excerpt: Excerpt) -> set[Sign]:
    """What may be shared: the tokens at and near the highlights, and all tokens of the excerpt."""
    found: set[Sign] = {("window", token) for token in excerpt.ids}
    for position in (number for number, marked in enumerate(excerpt.marked) if marked):
        for place, offset in OFFSETS.items():
            if 0 <= position + offset < len(excerpt.ids):
                found.add((place, excerpt.ids[position + offset]))
    return {(place, token) for place, token in found if token != NO_TOKEN}
