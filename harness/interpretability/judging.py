"""What explainers and judges are given, and what they answer: one interface for the built-in ones and for others.

Shape letters: n windows, L tokens of a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Score = Literal["detection", "fuzzing", "intruder"]
SCORES: tuple[Score, ...] = ("detection", "fuzzing", "intruder")


class Evidence(NamedTuple):
    """Windows that one latent is explained by; activations of 0 throughout where it does not fire."""

    ids: NDArray[np.int64]  # [n, L]
    activations: NDArray[np.float32]  # [n, L]


@dataclass(frozen=True)
class Explanation:
    """What a latent responds to, in words. `rule`: what the built-in judge goes by, in a form of its own."""

    text: str
    rule: Any = None


class Excerpt(NamedTuple):
    """A window as a judge sees it. `marked`: the tokens that are highlighted; none are for detection."""

    ids: tuple[int, ...]
    marked: tuple[bool, ...]


class Question(NamedTuple):
    """What a judge is asked about some excerpts.

    detection: in which of them does the explained latent fire? fuzzing: in which of them are the highlighted
    tokens those that it fires on? intruder: which one is unlike the others? For that there is no explanation.
    """

    score: Score
    explanation: Explanation | None
    excerpts: tuple[Excerpt, ...]


# For each excerpt: yes or no, or None where there was no valid answer; of an intruder, yes for the one picked
Answer = tuple[bool | None, ...]


class Judge(Protocol):
    """Explains latents and judges explanations."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides its answers, as JSON has it; no credentials."""

    def explain(self, evidence: Sequence[Evidence]) -> list[Explanation]:
        """One explanation per latent."""

    def answer(self, questions: Sequence[Question], repetition: int = 0) -> list[Answer]:
        """One answer per question. repetition: asked for the how many-th time, from 0."""
