"""The windows that are shown of a latent: activating ones by quantile, and negatives of several kinds.

Shape letters: n windows that are shown, L tokens of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.firings import Firings
from harness.interpretability.windows import Windows
from harness.study.interpretability import Interpretability

ACTIVATING = "activating"
Negatives = Literal["random", "same_token", "similar", "neighbour"]
NEGATIVES: tuple[Negatives, ...] = ("random", "same_token", "similar", "neighbour")
# A latent -> windows in which it does not fire, the best ones first
Candidates = Callable[[int], NDArray[np.int64]]


@dataclass(frozen=True)
class Examples:
    """Windows of one latent, from one draw. `kinds`: `activating`, or which kind of negatives."""

    latent: int
    draw: int
    windows: NDArray[np.int64]  # [n], numbers of `Windows`
    kinds: NDArray[np.str_]  # [n]
    quantiles: NDArray[np.int64]  # [n], of the windows' highest activation, from 0, the weakest; -1 for negatives
    to_explain: NDArray[np.bool_]  # [n]; the others are judged
    activations: NDArray[np.float32]  # [n, L]

    def __len__(self) -> int:
        return len(self.windows)

    def only(self, *kinds: str, to_explain: bool) -> Examples:
        """Those of these kinds on one side."""
        kept = np.isin(self.kinds, kinds) & (self.to_explain == to_explain)
        parts = (self.windows, self.kinds, self.quantiles, self.to_explain, self.activations)
        return Examples(self.latent, self.draw, *(part[kept] for part in parts))


class Drawing:
    """Draws the windows of an SAE's latents. `candidates`: of each kind of negatives besides random ones."""

    def __init__(
        self,
        windows: Windows,
        firings: Firings,
        asked: Interpretability,
        candidates: Mapping[str, Candidates] | None = None,
    ) -> None:
        self._windows = windows
        self._firings = firings
        self._asked = asked
        self._candidates = dict(candidates or {})

    def draw(self, latent: int, draw: int) -> Examples:
        """The windows of a latent, the same for the same `draw`; none for a dead one."""
        random = np.random.default_rng([self._asked.seed, 2, latent, draw])
        activations = self._windows.activations(*self._firings.of(latent), self._firings.total)
        strongest = activations.max(1)
        parts: list[tuple[NDArray[np.int64], str, NDArray[np.int64], bool]] = []
        for to_explain, count in ((True, self._asked.to_explain), (False, self._asked.windows)):
            side = self._windows.to_explain == to_explain
            active = np.flatnonzero(side & (strongest > 0))
            chosen, quantiles = _by_quantile(active, strongest[active], self._asked.quantiles, count, random)
            parts.append((chosen, ACTIVATING, quantiles, to_explain))
            if len(active):
                silent = np.flatnonzero(side & (strongest == 0))
                others = random.permutation(silent)[:count]
                parts.append((others, NEGATIVES[0], np.full(len(others), -1), to_explain))
        windows, kinds, quantiles, sides = (
            np.concatenate(column)
            for column in zip(
                *((w, np.full(len(w), kind), q, np.full(len(w), side)) for w, kind, q, side in parts), strict=True
            )
        )
        return Examples(latent, draw, windows, kinds, quantiles, sides, activations[windows])


def _by_quantile(
    windows: NDArray[np.int64],
    strongest: NDArray[np.float32],
    quantiles: int,
    count: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most `count` of the windows, as many of each quantile of the highest activation; and the quantiles."""
    order = windows[np.argsort(strongest, kind="stable")]
    parts = np.array_split(order, quantiles)
    shares = [count // quantiles + (number < count % quantiles) for number in range(quantiles)]
    chosen = [np.sort(random.permutation(part)[:share]) for part, share in zip(parts, shares, strict=True)]
    return np.concatenate(chosen), np.repeat(np.arange(quantiles), [len(part) for part in chosen])
