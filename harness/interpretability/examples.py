"""The windows that are shown of a latent: activating ones by quantile, and negatives of several kinds.

Shape letters: n windows that are shown, L tokens of a window, M all windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.interpretability.firings import Firings
from harness.interpretability.negatives import KINDS, Negatives, Shown
from harness.interpretability.windows import Windows
from harness.study.interpretability import Interpretability

ACTIVATING = "activating"
NEGATIVES: tuple[Negatives, ...] = tuple(KINDS)  # the random ones first
NEITHER = -1  # the quantile of a negative, and its peak


@dataclass(frozen=True)
class Examples:
    """Windows of one latent, from one draw. `kinds`: `activating`, or which kind of negatives."""

    latent: int
    draw: int
    windows: NDArray[np.int64]  # [n], numbers of `Windows`; one may be there as negatives of several kinds
    kinds: NDArray[np.str_]  # [n]
    quantiles: NDArray[np.int64]  # [n], of the windows' highest activation, from 0, the weakest; -1 for negatives
    to_explain: NDArray[np.bool_]  # [n]; the others are judged
    activations: NDArray[np.float32]  # [n, L]

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def peaks(self) -> NDArray[np.int64]:
        """[n]: where in a window the highest activation is, the first of equal ones; -1 for negatives."""
        return np.where(self.kinds == ACTIVATING, self.activations.argmax(1), NEITHER)

    def only(self, *kinds: str, to_explain: bool) -> Examples:
        """Those of these kinds on one side."""
        return self.rows(np.flatnonzero(np.isin(self.kinds, kinds) & (self.to_explain == to_explain)))

    def rows(self, chosen: NDArray[np.int64]) -> Examples:
        """These of them, in this order."""
        return replace(
            self,
            windows=self.windows[chosen],
            kinds=self.kinds[chosen],
            quantiles=self.quantiles[chosen],
            to_explain=self.to_explain[chosen],
            activations=self.activations[chosen],
        )


class _Part(NamedTuple):
    """Windows of one kind on one side."""

    windows: NDArray[np.int64]
    kind: str
    quantiles: NDArray[np.int64]
    to_explain: bool


class Drawing:
    """Draws the windows of an SAE's latents."""

    def __init__(self, windows: Windows, firings: Firings, asked: Interpretability) -> None:
        self._windows = windows
        self._firings = firings
        self._asked = asked

    def draw(self, latent: int, draw: int) -> Examples:
        """The windows of a latent, the same for the same `draw`; none for a dead one.

        On either side as many activating ones as are asked for, or all; and so many negatives of each kind, or
        as many as there are. A latent that fires in every window has none.
        """
        firing = self._firings.of(latent)
        strongest = self._windows.strongest(*firing)
        random = np.random.default_rng([self._asked.seed, 2, latent, draw])
        parts = [
            part
            for to_explain, count in ((True, self._asked.to_explain), (False, self._asked.windows))
            for part in self._side(latent, strongest, to_explain, count, random)
        ]
        sizes = [len(part.windows) for part in parts]
        windows = np.concatenate([part.windows for part in parts])
        return Examples(
            latent,
            draw,
            windows,
            np.repeat([part.kind for part in parts], sizes),
            np.concatenate([part.quantiles for part in parts]),
            np.repeat([part.to_explain for part in parts], sizes),
            self._windows.activations(*firing, windows),
        )

    def _side(
        self,
        latent: int,
        strongest: NDArray[np.float32],
        to_explain: bool,
        count: int,
        random: np.random.Generator,
    ) -> Iterator[_Part]:
        """Activating windows and negatives of one side. strongest: the highest activation in each window [M]."""
        side = self._windows.to_explain == to_explain
        active = np.flatnonzero(side & (strongest > 0))
        chosen, quantiles = _by_quantile(active, strongest[active], self._asked.quantiles, count, random)
        yield _Part(chosen, ACTIVATING, quantiles, to_explain)
        if not len(chosen):
            return
        order = random.permutation(
            chosen
        )  # where fewer negatives are found, they belong to windows of all quantiles
        peaks = self._windows.activations(*self._firings.of(latent), order).argmax(1)
        shown = Shown(latent, order, self._windows.ids[order, peaks], side & (strongest == 0), count, random)
        for kind, negatives in KINDS.items():
            found = negatives(shown, self._windows, self._firings)
            yield _Part(found, kind, np.full(len(found), NEITHER), to_explain)


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
