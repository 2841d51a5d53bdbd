"""Windows in which a latent is silent, of four kinds, to tell from those in which it fires.

Random ones are easy: a latent that fires on one word is told from them by the word alone. The others are hard, as
each has something of the windows in which the latent does fire: the token, the meaning, or the company.

Shape letters: n activating windows that are shown, M windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.firings import Firings
from harness.interpretability.windows import Windows

Negatives = Literal["random", "same_token", "similar", "neighbour"]
NEIGHBOURS = 10  # latents whose windows are taken, at most


class Shown(NamedTuple):
    """What negatives are drawn for, and among which windows: one side of one draw of a latent."""

    latent: int
    windows: NDArray[np.int64]  # [n], activating ones, at least one
    peak_tokens: NDArray[np.int64]  # [n], the token at which the latent fires most
    silent: NDArray[np.bool_]  # [M], the windows of this side in which the latent does not fire
    wanted: int  # how many negatives
    random: np.random.Generator


def random_windows(shown: Shown, _windows: Windows, _firings: Firings) -> NDArray[np.int64]:
    """Any silent windows."""
    return shown.random.permutation(np.flatnonzero(shown.silent))[: shown.wanted]


def same_token(shown: Shown, windows: Windows, _firings: Firings) -> NDArray[np.int64]:
    """Silent windows with a token at which the latent peaks elsewhere.

    Each stands against an activating window, of which it has the peak token; so a latent that peaks at several
    tokens is tested with each of them as often as it peaks there. Where a token has too few silent windows, no
    other token's are taken instead: there are fewer negatives, none for a latent that fires on all occurrences.
    """
    left = {}
    for token in np.unique(shown.peak_tokens).tolist():
        having = windows.with_token(token)
        left[token] = shown.random.permutation(having[shown.silent[having]]).tolist()
    found: dict[int, None] = {}
    for number in range(shown.wanted):
        candidates = left[int(shown.peak_tokens[number % len(shown.peak_tokens)])]
        while candidates and candidates[-1] in found:  # it has two of the tokens
            candidates.pop()
        if candidates:
            found[candidates.pop()] = None
    return np.array([*found], np.int64)


def similar(shown: Shown, windows: Windows, _firings: Firings) -> NDArray[np.int64]:
    """Silent windows that are nearest to the activating ones by their embeddings, each to one of these."""
    silent = np.flatnonzero(shown.silent)
    alike = windows.embedding[shown.windows] @ windows.embedding[silent].T
    found = []
    for number in range(min(shown.wanted, len(silent))):
        best = int(alike[number % len(alike)].argmax())
        alike[:, best] = -np.inf
        found.append(best)
    return silent[found] if found else silent[:0]


def neighbour(shown: Shown, windows: Windows, firings: Firings) -> NDArray[np.int64]:
    """Silent windows in which the latent's nearest neighbour by co-firing does fire.

    Where these are too few, as where the neighbour fires in the same windows as the latent, those follow in which
    the next nearest does.
    """
    left, found = shown.silent.copy(), shown.windows[:0]
    for other in firings.neighbours(shown.latent, NEIGHBOURS).latents.tolist():
        fires = np.flatnonzero(left & (windows.strongest(*firings.of(other)) > 0))
        found = np.concatenate([found, shown.random.permutation(fires)])[: shown.wanted]
        if len(found) == shown.wanted:
            break
        left[fires] = False
    return found


Draw = Callable[[Shown, Windows, Firings], NDArray[np.int64]]
KINDS: Mapping[Negatives, Draw] = {
    "random": random_windows,
    "same_token": same_token,
    "similar": similar,
    "neighbour": neighbour,
}
