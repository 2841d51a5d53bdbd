"""Rules over tokens: on which tokens of a window a latent fires, in a form that a reader and a machine understand.

A rule is in disjunctive normal form: a latent fires where all conditions of one of its conjunctions hold.
Shape letters: n windows, L tokens of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.windows import NO_TOKEN

# What a condition is about: the token at an offset from the one that is looked at, that token's position in the
# window, or any token of the window
Place: TypeAlias = Literal["token", "1 before", "2 before", "3 before", "1 after", "position", "window"]
OFFSETS: dict[Place, int] = {"token": 0, "1 before": -1, "2 before": -2, "3 before": -3, "1 after": 1}
PLACES: tuple[Place, ...] = (*OFFSETS, "position", "window")

Ids = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Condition(NamedTuple):
    """One of these values stands at the place: ids of tokens, or positions from 0."""

    place: Place
    values: tuple[int, ...]

    def holds(self, ids: Ids) -> Bools:
        """At each token [n, L] of windows [n, L]."""
        here = values_at(self.place, ids)
        found = np.logical_or.reduce([np.zeros(ids.shape, bool), *(here == value for value in self.values)])
        return np.broadcast_to(found.any(1, keepdims=True), ids.shape) if self.place == "window" else found


Conjunction: TypeAlias = tuple[Condition, ...]
Rule: TypeAlias = tuple[Conjunction, ...]


def values_at(place: Place, ids: Ids) -> Ids:
    """What stands at a place, seen from each token: [n, L]. NO_TOKEN beyond the window; for `window` the token."""
    if place == "position":
        return np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    offset = OFFSETS.get(place, 0)
    if offset == 0:
        return ids
    found = np.full_like(ids, NO_TOKEN)
    if offset < 0:
        found[:, -offset:] = ids[:, :offset]
    else:
        found[:, :-offset] = ids[:, offset:]
    return found


def matches(rule: Rule, ids: Ids) -> Bools:
    """On which tokens of the windows the rule says that the latent fires: [n, L]."""
    found: Bools = np.zeros(ids.shape, bool)
    for conjunction in rule:
        found |= np.logical_and.reduce([condition.holds(ids) for condition in conjunction])
    found &= ids != NO_TOKEN
    return found


def describe(rule: Rule, word: Callable[[int], str]) -> str:
    """The rule in words. word: the text of a token."""
    if not rule:
        return "no rule found"
    return "; or ".join(_conjunction(dict(conjunction), word) for conjunction in rule)


def _conjunction(values: dict[Place, tuple[int, ...]], word: Callable[[int], str]) -> str:
    tokens: dict[Place, str] = {
        place: _either([quoted(word(token)) for token in found])
        for place, found in values.items()
        if place != "position"
    }
    parts = [f"token {tokens['token']}" if "token" in tokens else "any token"]
    before = {"1 before": "after", "2 before": "2 tokens after", "3 before": "3 tokens after", "1 after": "before"}
    parts += [f"{text} {tokens[place]}" for place, text in before.items() if place in tokens]
    if "position" in values:
        parts.append(
            f"at position {_either([str(position + 1) for position in values['position']])} of the window"
        )
    if "window" in tokens:
        parts.append(f"in a window with {tokens['window']}")
    return " ".join(parts)


def quoted(text: str) -> str:
    """In typographic quotes, with line ends and other control characters escaped."""
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return f"‘{shown}’"


def _either(texts: Collection[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} or {last}" if first else last
