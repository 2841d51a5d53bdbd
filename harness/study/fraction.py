"""A balanced part of a factorial, in which all main effects can still be estimated.

The part is chosen so that levels, pairs of levels and triples of levels occur in it in the same proportions as
among all arms, in this order of importance: main effects are then estimated independently of each other (pairs),
and as independently as possible of two-way interactions (triples).

The measure of imbalance is the squared maximum mean discrepancy between the part and all arms (Gretton et al.,
JMLR 2012) for a product kernel over axes. Where each combination of levels is an arm, it is a weighted sum of the
generalised word lengths of Xu and Wu (Annals of Statistics 2001), the first of which is 0 if levels are balanced,
and the second if pairs of levels are: an orthogonal array has both. Conditional axes, for which there is no
orthogonal array, need no other rule. It is minimised by exchanging arms (Fedorov 1972) from several starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

Point: TypeAlias = tuple[object, ...]  # an arm's level on each axis; ABSENT where it does not have the axis

ABSENT = "\0"  # no level of a study file reads so
# What one more axis weighs in the kernel. Where it is small, levels come before pairs and these before triples,
# but most exchanges end early; where it is large, they end near the best parts, from which the former go on.
STRICT, SMOOTH = 0.05, 0.5
EXACT = 2**20  # of the kernel's values, which are then whole numbers
STARTS, FEWEST_STARTS = 30, 4
WORK = 2_000_000  # arms to exchange times candidates, over all starts
MOST_CANDIDATES = 1500  # arms that are compared with each other at once
TOLERANCE = 1e-9  # below which a singular value is 0: far above rounding, far below those of any part


@dataclass(frozen=True)
class Part:
    """The chosen arms, by their places among all.

    levels_off, pairs_off: the largest difference, in arms, between the count of a level, or of a pair of levels,
    and its share in all arms. efficiency: D-efficiency for main effects, relative to all arms.
    """

    chosen: tuple[int, ...]
    levels_off: float
    pairs_off: float
    efficiency: float


def main_effects(points: Sequence[Point]) -> int:
    """How many independent numbers the additive model of these arms has, the mean among them: the fewest arms."""
    return int(_orthonormal(points).shape[1])


@cache
def balanced(points: tuple[Point, ...], arms: int, kept: int | None) -> Part:
    """The most balanced part found: `arms` of these points, the one at `kept` among them; always the same.

    Expects at least `main_effects` arms and at most all. All main effects that can be estimated from all points
    can be from the part.
    """
    import numpy as np

    random = np.random.default_rng(arms)
    candidates = _candidates(points, arms, kept, random)
    here = [points[place] for place in candidates]
    smooth, strict = (_kernel(points, here, weight) for weight in (SMOOTH, STRICT))
    model = _orthonormal(points)[candidates]
    fixed = [] if kept is None else [candidates.index(kept)]
    best: tuple[int, list[int]] | None = None
    for free, held in _starts(model, arms, fixed, random):
        chosen = held + _exchange(strict, _exchange(smooth, free, held), held)
        off = int(strict[np.ix_(chosen, chosen)].sum())
        full = np.linalg.matrix_rank(model[chosen], TOLERANCE) == model.shape[1]
        if full and (best is None or off < best[0]):
            best = off, chosen
    assert best is not None, "the last start keeps independent arms"
    part = tuple(sorted(candidates[place] for place in best[1]))
    return Part(part, _off(points, part, 1), _off(points, part, 2), _efficiency(points, part))


def _starts(
    model: Array, arms: int, fixed: list[int], random: np.random.Generator
) -> Iterator[tuple[list[int], list[int]]]:
    """Arms to exchange and arms to keep: random ones, and at last some that can estimate all main effects."""
    others = [place for place in range(len(model)) if place not in fixed]
    for _ in range(min(STARTS, max(FEWEST_STARTS, WORK // (arms * len(model))))):
        yield [int(place) for place in random.permutation(others)[: arms - len(fixed)]], fixed
    held = _independent(model, fixed)
    rest = [place for place in others if place not in held]
    yield rest[: arms - len(held)], held


def _independent(model: Array, fixed: list[int]) -> list[int]:
    """As many arms as the model has columns, with independent rows, the fixed ones first (Gram-Schmidt)."""
    import numpy as np

    left, held = model.copy(), list[int]()
    while len(held) < model.shape[1]:
        norms = np.einsum("ij,ij->i", left, left)
        place = fixed[0] if fixed and not held else int(np.argmax(np.round(norms, 9)))
        direction = left[place] / np.sqrt(norms[place])
        left = left - np.outer(left @ direction, direction)
        held.append(place)
    return held


def _candidates(points: Sequence[Point], arms: int, kept: int | None, random: np.random.Generator) -> list[int]:
    """Places of the arms that are compared: all, or some of very many that can estimate all main effects."""
    if len(points) <= MOST_CANDIDATES:
        return list(range(len(points)))
    model = _orthonormal(points)
    needed = _independent(model, [] if kept is None else [kept])
    drawn = random.permutation(len(points))[: max(MOST_CANDIDATES, 2 * arms)]
    return sorted({*needed, *(int(place) for place in drawn)})


def _exchange(kernel: Array, free: list[int], held: list[int]) -> list[int]:
    """Exchange one free arm at a time for the arm outside that lowers the sum over all pairs most, to the end."""
    import numpy as np

    chosen, diagonal = list(free), np.diag(kernel)
    outside = np.ones(len(kernel), dtype=bool)
    outside[free + held] = False
    sums = kernel[:, free + held].sum(axis=1)
    improved = True
    while improved and outside.any():
        improved = False
        for number, old in enumerate(chosen):
            change = 2 * (sums - sums[old]) + diagonal + diagonal[old] - 2 * kernel[old]
            change[~outside] = 0
            new = int(np.argmin(change))
            if change[new] < 0:
                chosen[number], outside[old], outside[new] = new, True, False
                sums = sums + kernel[new] - kernel[old]
                improved = True
    return chosen


def _kernel(points: Sequence[Point], here: Sequence[Point], weight: float) -> Array:
    """Product over axes of 1 + weight (1 [same level] / its share - 1), less its means over all points.

    In whole numbers, whose sums are exact: every machine chooses the same among equally good arms.
    """
    import numpy as np

    def products(others: Sequence[Point]) -> Array:
        found = np.ones((len(here), len(others)))
        codes = (_codes(points, these) for these in (points, here, others))
        for all_codes, own, other in zip(*codes, strict=True):
            share = np.bincount(all_codes) / len(points)
            found *= 1 + weight * ((own[:, None] == other) / share[own][:, None] - 1)
        return np.rint(found * EXACT).astype(np.int64)

    kernel = products(here)
    complete = len(points) == math.prod(len(set(levels)) for levels in zip(*points, strict=True))
    means = EXACT if complete else products(points).sum(axis=1) // len(points)
    centred: Array = kernel - np.broadcast_to(means, len(here))[:, None] - means
    return centred


def _codes(points: Sequence[Point], here: Sequence[Point] | None = None) -> Iterator[Array]:
    """For each axis the numbers of the levels of all arms, or of those `here`."""
    import numpy as np

    for axis, levels in enumerate(zip(*points, strict=True)):
        numbers = {level: number for number, level in enumerate(dict.fromkeys(levels))}
        yield np.array([numbers[point[axis]] for point in (points if here is None else here)])


def _indicators(points: Sequence[Point]) -> Array:
    """The additive model: a column of ones, and one for each level of each axis. [arms, columns]"""
    import numpy as np

    columns = [np.eye(int(codes.max()) + 1)[codes] for codes in _codes(points)]
    return np.column_stack([np.ones(len(points)), *columns])


def _orthonormal(points: Sequence[Point]) -> Array:
    """The additive model with as many columns as it has independent numbers, orthonormal over all arms."""
    import numpy as np

    left, sizes, _ = np.linalg.svd(_indicators(points), full_matrices=False)
    kept: Array = left[:, sizes > TOLERANCE * sizes[0]]
    return kept


def _efficiency(points: Sequence[Point], chosen: Sequence[int]) -> float:
    import numpy as np

    model = _orthonormal(points)
    _, log = np.linalg.slogdet(model[list(chosen)].T @ model[list(chosen)])
    return float(np.exp(log / model.shape[1]) * len(points) / len(chosen))


def _off(points: Sequence[Point], chosen: Sequence[int], axes: int) -> float:
    """The largest difference between the count of a combination of levels and its share in all arms."""
    import numpy as np

    codes, share = list(_codes(points)), len(chosen) / len(points)
    worst = 0.0
    for together in combinations(codes, axes):
        joint = np.ravel_multi_index(together, [int(code.max()) + 1 for code in together])
        counts = np.bincount(joint), np.bincount(joint[list(chosen)], minlength=int(joint.max()) + 1)
        worst = max(worst, float(np.abs(counts[1] - share * counts[0]).max()))
    return worst
