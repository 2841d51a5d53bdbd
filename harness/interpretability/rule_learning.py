"""Learns a rule from windows in which a latent fires and others, by sequential covering.

Conjunctions are added one by one, each for windows that none before it covers (Fürnkranz, Separate-and-Conquer
Rule Learning, 1999). A conjunction grows by one condition at a time, a condition by one value at a time, each the
one that adds most to the balanced accuracy on the windows that are learned from, until none adds enough.
Shape letters: n windows, L tokens of a window, C candidate values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.rules import (
    NONE,
    PLACES,
    Condition,
    Conjunction,
    Ids,
    Place,
    Rule,
    matches,
    values_at,
)

MOST_CONJUNCTIONS = 4
MOST_CONDITIONS = 3  # of a conjunction
MOST_VALUES = 12  # of a condition
ENOUGH = 2.0  # windows that a further value or condition must gain: what only one has is chance
SILENT = 0.2  # weight of silent tokens of activating windows, beside that of windows without activation

Bools = NDArray[np.bool_]
Numbers = NDArray[np.float32]


class _Windows(NamedTuple):
    """Where tokens are counted. A rule covers a row if it matches one of its tokens.

    There are two rows per window: tokens that the latent fires on, or all of a window without such; and the silent
    tokens of an activating window. So a rule only covers an activating window by tokens that the latent fires on.
    """

    ids: Ids  # [n, L]
    rows: Ids  # [n, L], the row that each token belongs to
    fires: Bools  # [n, L]
    weights: Numbers  # [2n]: what covering a row adds to the balanced accuracy, times 2
    values: dict[Place, Ids]  # [n, L] each


class _Grown(NamedTuple):
    condition: Condition
    gain: float


def learn(ids: Ids, activations: NDArray[np.float32]) -> Rule:
    """The rule for windows [n, L]; those without activation are the negatives. Empty where no rule helps."""
    fires = activations > 0
    active = fires.any(1)
    if not active.any() or active.all():
        return ()
    data = _data(ids, fires, active)
    enough = ENOUGH / int(active.sum())
    everywhere = np.ones(ids.shape, bool)
    candidates = [
        _Candidates(place, data, everywhere) for place in PLACES
    ]  # of every conjunction's first condition
    weights = data.weights.copy()
    rule: list[Conjunction] = []
    while len(rule) < MOST_CONJUNCTIONS:
        conjunction = _conjunction(data, candidates, weights, enough)
        if not conjunction:
            break
        rule.append(conjunction)
        weights[np.unique(data.rows[matches((conjunction,), ids)])] = 0
    return tuple(rule)


def _data(ids: Ids, fires: Bools, active: Bools) -> _Windows:
    n = len(ids)
    silent = active[:, None] & ~fires
    rows = np.arange(n)[:, None] + n * silent
    weights = np.zeros(2 * n, np.float32)
    weights[:n] = np.where(active, 1 / active.sum(), -1 / max(1, (~active).sum()))
    weights[n:][active] = -SILENT / active.sum()
    return _Windows(ids, rows, fires, weights, {place: values_at(place, ids) for place in PLACES})


def _conjunction(data: _Windows, first: list[_Candidates], weights: Numbers, enough: float) -> Conjunction:
    """The conjunction that gains most; empty where none gains enough."""
    found: dict[Place, Condition] = {}
    candidates, gain = first, 0.0
    while len(found) < MOST_CONDITIONS:
        grown = [each.grow(weights, enough) for each in candidates if each.place not in found]
        best = max(grown, key=lambda each: each.gain)
        if best.gain < gain + enough:
            break
        found[best.condition.place], gain = best.condition, best.gain
        here = np.logical_and.reduce([condition.holds(data.ids) for condition in found.values()])
        candidates = [_Candidates(place, data, here) for place in PLACES]
    return tuple(found.values())


class _Candidates:
    """The values at a place of tokens that the latent fires on, and which rows each covers. here: [n, L]."""

    def __init__(self, place: Place, data: _Windows, here: Bools) -> None:
        self.place = place
        values = data.values[place]
        positive = data.fires & here
        if place == "window":  # every token of the window is a candidate, and holds at all that are left
            positive = np.broadcast_to(positive.any(1, keepdims=True), here.shape)
            seen, rows = self._whole_windows(data, here)
        else:
            seen, rows = values[here], data.rows[here]
        self._values = _frequent(values, positive)
        place_of = np.full(int(data.ids.max()) + data.ids.shape[1] + 2, -1)  # the last is that of NONE
        place_of[self._values] = np.arange(len(self._values))
        candidate = place_of[seen]
        known = candidate >= 0
        self._covers = np.zeros((len(self._values), len(data.weights)), np.float32)  # [C, 2n]
        self._covers[candidate[known], rows[known]] = 1

    @staticmethod
    def _whole_windows(data: _Windows, here: Bools) -> tuple[Ids, Ids]:
        """All tokens of windows, once for each of the window's rows that has tokens left."""
        left = np.unique(data.rows[here])
        ids = data.ids[left % len(data.ids)]
        return ids.ravel(), np.repeat(left, ids.shape[1])

    def grow(self, weights: Numbers, enough: float) -> _Grown:
        """The condition that gains most, and its gain."""
        covers, weights, total = self._covers, weights.copy(), 0.0
        values: list[int] = []
        while len(values) < min(MOST_VALUES, len(covers)):
            gains = covers @ weights
            best = int(gains.argmax())
            if gains[best] < enough:
                break
            values.append(int(self._values[best]))
            total += float(gains[best])
            weights[covers[best] > 0] = 0
        return _Grown(Condition(self.place, tuple(values)), total)


def _frequent(values: Ids, positive: Bools) -> Ids:
    """Values at positive tokens of at least two windows: [C]."""
    windows, _ = np.nonzero(positive)
    found = values[positive]
    known = found != NONE
    pairs = np.unique(found[known] * len(values) + windows[known])
    each, count = np.unique(pairs // len(values), return_counts=True)
    return each[count >= ENOUGH]
