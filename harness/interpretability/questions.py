"""The questions that a latent's windows make: one per draw and score, of intruders one per pick.

Shape letters: L tokens of a window, R rows: what is known of a question's excerpts, one answer each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.examples import ACTIVATING, NEGATIVES, Examples
from harness.interpretability.judging import Excerpt, Explanation, Question
from harness.interpretability.windows import Windows

RIGHT_TOKENS, WRONG_TOKENS = "right_tokens", "wrong_tokens"
RANDOM = NEGATIVES[0]
BESIDE_INTRUDER = 4  # activating windows

Bools = NDArray[np.bool_]


class Asked(NamedTuple):
    """A question about a latent, and what is right. `permuted`: with the explanation of another latent.

    For an intruder there is one row: that excerpt, which is to be picked.
    """

    latent: int
    draw: int
    permuted: bool
    question: Question
    excerpts: NDArray[np.int64]  # [R], which of the question's
    kinds: NDArray[np.str_]  # [R]
    quantiles: NDArray[np.int64]  # [R], -1 where there is none
    expected: Bools  # [R], the right answer


def questions_of(
    examples: Examples,
    windows: Windows,
    explanation: Explanation,
    seed: int,
    permuted: Explanation | None = None,
) -> list[Asked]:
    """All that is asked about one latent in one draw. permuted: of another latent, asked about as well."""
    random = np.random.default_rng([seed, 3, examples.latent, examples.draw])
    negatives = examples.only(*NEGATIVES, to_explain=False)
    active = _shuffled_within_quantiles(examples.only(ACTIVATING, to_explain=False), random)
    asked = [_detection(examples.only(ACTIVATING, *NEGATIVES, to_explain=False), windows, explanation)]
    if permuted is not None:
        judged = examples.only(ACTIVATING, RANDOM, to_explain=False)
        asked.append(_detection(judged, windows, permuted)._replace(permuted=True))
    asked += _fuzzing(active, windows, explanation, random)
    asked += _intruders(active, negatives.windows[negatives.kinds == RANDOM], windows, random)
    return asked


def _detection(judged: Examples, windows: Windows, explanation: Explanation) -> Asked:
    shown, places = np.unique(judged.windows, return_inverse=True)  # one window may be a negative of two kinds
    unmarked = (False,) * windows.length
    excerpts = tuple(Excerpt(tuple(ids), unmarked) for ids in windows.ids[shown].tolist())
    question = Question("detection", explanation, excerpts)
    right = judged.kinds == ACTIVATING
    return Asked(judged.latent, judged.draw, False, question, places, judged.kinds, judged.quantiles, right)


def _fuzzing(
    active: Examples, windows: Windows, explanation: Explanation, random: np.random.Generator
) -> list[Asked]:
    """Every other window with the tokens that the latent fires on, the rest with as many others."""
    silent = (active.activations == 0) & (windows.rows[active.windows] >= 0)
    # Not more than there are silent tokens, else wrong highlights would be told by their number
    fired = np.array([_strongest(*row) for row in zip(active.activations, silent.sum(1), strict=True)])
    right = np.arange(len(active)) % 2 == 0
    marks = [
        mark if is_right else _moved(mark, free, random)
        for mark, free, is_right in zip(fired, silent, right, strict=True)
    ]
    kept = np.array([mark.any() for mark in marks], bool)  # where a latent fires on all, no token is wrong
    if not kept.any():
        return []
    excerpts = tuple(
        _excerpt(windows, window, mark)
        for window, mark, keep in zip(active.windows, marks, kept, strict=True)
        if keep
    )
    question = Question("fuzzing", explanation, excerpts)
    kinds = np.where(right, RIGHT_TOKENS, WRONG_TOKENS)[kept]
    places = np.arange(len(excerpts))
    return [Asked(active.latent, active.draw, False, question, places, kinds, active.quantiles[kept], right[kept])]


def _intruders(
    active: Examples, negatives: NDArray[np.int64], windows: Windows, random: np.random.Generator
) -> list[Asked]:
    """Four windows that the latent fires in, of one quantile if there are enough, and one in which it does not."""
    if not len(negatives):
        return []
    fired = np.array([_strongest(row, windows.length) for row in active.activations])
    negatives = random.permutation(negatives)
    found: list[Asked] = []
    for number in range(len(active) // BESIDE_INTRUDER):
        beside = np.arange(number * BESIDE_INTRUDER, (number + 1) * BESIDE_INTRUDER)
        intruder = int(negatives[number % len(negatives)])
        # As many tokens are marked as in a window of the latent, at best in none of these four
        others = np.setdiff1d(np.arange(len(active)), beside)
        model = fired[random.choice(others if len(others) else beside)]
        shown = [_excerpt(windows, active.windows[i], fired[i]) for i in beside]
        shown.append(_excerpt(windows, intruder, _moved(model, windows.rows[intruder] >= 0, random)))
        order = random.permutation(len(shown))
        question = Question("intruder", None, tuple(shown[i] for i in order))
        quantiles = np.unique(active.quantiles[beside])
        found.append(
            Asked(
                active.latent,
                active.draw,
                False,
                question,
                excerpts=np.flatnonzero(order == BESIDE_INTRUDER),
                kinds=np.array([RANDOM]),
                quantiles=quantiles if len(quantiles) == 1 else np.array([-1]),
                expected=np.array([True]),
            )
        )
    return found


def _shuffled_within_quantiles(active: Examples, random: np.random.Generator) -> Examples:
    order = random.permutation(len(active))
    return active.rows(order[np.argsort(active.quantiles[order], kind="stable")])


def _strongest(activations: NDArray[np.float32], most: int) -> Bools:
    """The tokens that a latent fires on, at most `most` and half of the window, the strongest ones: [L]."""
    count = min(int((activations > 0).sum()), most, len(activations) // 2)
    marks = np.zeros(len(activations), bool)
    marks[np.argsort(-activations, kind="stable")[:count]] = True
    return marks


def _moved(marks: Bools, free: Bools, random: np.random.Generator) -> Bools:
    """The same pattern of marks elsewhere, on free tokens alone; where it fits nowhere, as many free ones: [L].

    The pattern stays, so that its shape does not tell which tokens are right.
    """
    for shift in random.permutation(len(marks)):
        moved = np.roll(marks, shift)
        if not (moved & ~free).any():
            return moved
    moved = np.zeros(len(marks), bool)
    moved[random.permutation(np.flatnonzero(free))[: int(marks.sum())]] = True
    return moved


def _excerpt(windows: Windows, window: int, marked: Bools) -> Excerpt:
    return Excerpt(tuple(windows.ids[window].tolist()), tuple(marked.tolist()))
