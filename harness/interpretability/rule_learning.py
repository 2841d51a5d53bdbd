"""Learns a rule from windows in which a latent fires and others, by sequential covering.

Conjunctions are added one by one, each for windows that none before it covers (Fürnkranz, Separate-and-Conquer
Rule Learning, 1999). A conjunction grows by one condition at a time, a condition by one value at a time, each the
one that adds most to the balanced accuracy on the windows that are learned from, until none adds enough; each
value has the same cost, so that a long list of tokens has to gain more than a short one.
Shape letters: n windows, L tokens of a window, C candidate values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.rules import (
    PLACES,
    Condition,
    Conjunction,
    Ids,
    Place,
    Rule,
    matches,
    values_at,
)
from harness.interpretability.windows import NO_TOKEN

MOST_CONJUNCTIONS = 4
MOST_CONDITIONS = 3  # of a conjunction
MOST_VALUES = 12  # of a condition
STARTS = 4  # tokens that a conjunction may begin with, besides the best condition
ENOUGH = 2.0  # activating windows that each value of a condition must gain: what one alone has is chance
SILENT = 0.35  # what matching silent tokens in all activating windows loses; matching all negatives loses 1

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
    """A condition. gain: of its conjunction, with the conditions before it. net: less the cost of its values."""

    condition: Condition
    gain: float
    net: float


def learn(ids: Ids, activations: NDArray[np.float32]) -> Rule:
    """The rule for windows [n, L]; those without activation are the negatives. Empty where no rule helps."""
    fires = activations > 0
    active: Bools = np.any(fires, axis=1)
    if not active.any() or active.all():
        return ()
    data = _data(ids, fires, active)
    enough = ENOUGH / int(active.sum())
    everywhere = np.flatnonzero(ids != NO_TOKEN)
    first = [_Candidates(place, data, everywhere) for place in PLACES]  # the same for each conjunction
    weights = data.weights.copy()
    rule: list[Conjunction] = []
    while len(rule) < MOST_CONJUNCTIONS:
        conjunction = _conjunction(data, first, weights, enough)
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
    weights[:n] = np.where(active, 1 / active.sum(), -1 / (~active).sum())
    weights[n:][active] = -SILENT / active.sum()
    return _Windows(ids, rows, fires, weights, {place: values_at(place, ids) for place in PLACES})


def _conjunction(data: _Windows, first: list[_Candidates], weights: Numbers, enough: float) -> Conjunction:
    """The conjunction that gains most; empty where none gains enough.

    It begins with the condition that gains most, or with one of the tokens that the latent fires on most: these
    may gain something only together with another condition, as the parts of a bigram do.
    """
    starts = {
        each.condition: each for each in (_best(first, weights, enough), *first[0].most_covered(weights, enough))
    }
    net, found = max(
        (_extended(data, start, weights, enough) for start in starts.values()), key=lambda each: each[0]
    )
    return found if net > 0 else ()


def _extended(data: _Windows, start: _Grown, weights: Numbers, enough: float) -> tuple[float, Conjunction]:
    """The net gain of the conjunction that begins with a condition; and the conjunction."""
    found, net, gain = [start.condition], start.net, start.gain
    while len(found) < MOST_CONDITIONS:
        left = np.flatnonzero(matches((tuple(found),), data.ids))
        places = [place for place in PLACES if place not in {condition.place for condition in found}]
        best = _best([_Candidates(place, data, left) for place in places], weights, enough)
        if best.net <= gain:
            break
        found, net, gain = [*found, best.condition], net + best.net - gain, best.gain
    return net, tuple(found)


def _best(candidates: list[_Candidates], weights: Numbers, enough: float) -> _Grown:
    return max((each.grow(weights, enough) for each in candidates), key=lambda each: each.net)


class _Candidates:
    """The values at a place of tokens that the latent fires on, and which rows each covers.

    at: the tokens that are left, as numbers in the flattened windows.
    """

    def __init__(self, place: Place, data: _Windows, at: Ids) -> None:
        self.place = place
        n, length = data.ids.shape
        positive = at[np.take(data.fires, at)]
        if place == "window":  # all tokens of the windows: each holds at whatever is left of its window
            left, active = np.unique(np.take(data.rows, at)), np.unique(positive // length)
            seen, rows = data.ids[left % n].ravel(), np.repeat(left, length)
            self._values = _frequent(data.ids[active].ravel(), np.repeat(active, length), n)
        else:
            values = data.values[place]
            seen, rows = np.take(values, at), np.take(data.rows, at)
            self._values = _frequent(np.take(values, positive), positive // length, n)
        self._covers = np.zeros((len(self._values), len(data.weights)), np.float32)  # [C, 2n]
        if len(self._values):
            candidate = np.searchsorted(self._values[1:], seen, side="right")
            known = self._values[candidate] == seen
            self._covers[candidate[known], rows[known]] = 1

    def grow(self, weights: Numbers, enough: float) -> _Grown:
        """The condition that gains most."""
        weights, gain = weights.copy(), 0.0
        values: list[int] = []
        while len(values) < min(MOST_VALUES, len(self._covers)):
            gains = self._covers @ weights
            best = int(gains.argmax())
            if gains[best] <= enough:
                break
            values.append(int(self._values[best]))
            gain += float(gains[best])
            weights[self._covers[best] > 0] = 0
        return _Grown(Condition(self.place, tuple(values)), gain, gain - enough * len(values))

    def most_covered(self, weights: Numbers, enough: float) -> list[_Grown]:
        """The conditions of one value that cover most activating windows."""
        covered, gains = self._covers @ np.maximum(weights, 0), self._covers @ weights
        order = np.argsort(-covered, kind="stable")[:STARTS]
        return [
            _Grown(Condition(self.place, (int(self._values[i]),)), float(gains[i]), float(gains[i]) - enough)
            for i in order
        ]


def _frequent(values: Ids, windows: Ids, n: int) -> Ids:
    """Those of the values that are in several of the n windows: [C]. windows: where each stands."""
    known = values != NO_TOKEN
    pairs = np.unique(values[known] * n + windows[known])
    each, count = np.unique(pairs // n, return_counts=True)
    return each[count >= ENOUGH]
