"""Variance components of nested groups of unequal sizes: seeds within arms, latents within seeds, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NestedComponent:
    """The variance of one level within the level above it. An estimate may come out below 0 and is given as 0.

    df: groups of the level less those of the level above. replicates: values in a group, their harmonic mean.
    """

    variance: float
    df: int
    replicates: float


def nested(values: NDArray[np.float64], groups: Sequence[NDArray[np.int64]]) -> list[NestedComponent]:
    """The variance components of the levels below the first one, which is fixed.

    values [n]. groups: for each level, from the outermost one, the group [n] of every value; each group lies
    within one group of the level above it. The last level may have a group for each value.

    The estimators are those of the analysis of variance for unequal groups (Searle, Casella & McCulloch 1992,
    section 5.3): with T the sum over a level's groups of their squared sums over their sizes, the sum of squares
    of a level is its T less that of the level above, and its expectation is linear in the components. A level
    without degrees of freedom has none and is given a variance of 0: its own is then part of the level above.
    """
    shifted = values - values.mean()
    dense = [np.unique(group, return_inverse=True)[1].ravel() for group in groups]
    sizes = [np.bincount(group).astype(float) for group in dense]
    totals = [float((np.bincount(g, shifted) ** 2 / size).sum()) for g, size in zip(dense, sizes, strict=True)]
    expected = _expected(dense, sizes)
    df = [len(size) - len(above) for size, above in zip(sizes[1:], sizes[:-1], strict=True)]
    known = [level for level in range(1, len(groups)) if df[level - 1] > 0]
    variances = np.zeros(len(groups))
    above = [0, *known[:-1]]
    if known:
        # the levels in between have no degrees of freedom, so a sum of squares of theirs would be 0
        matrix = np.array(
            [[expected[i][j] - expected[k][j] for j in known] for i, k in zip(known, above, strict=True)]
        )
        squares = np.array([totals[i] - totals[k] for i, k in zip(known, above, strict=True)])
        variances[known] = np.linalg.solve(matrix, squares)
    return [
        NestedComponent(max(0.0, float(variances[level])), df[level - 1], float(1 / np.mean(1 / sizes[level])))
        for level in range(1, len(groups))
    ]


def _expected(groups: Sequence[NDArray[np.int64]], sizes: Sequence[NDArray[np.float64]]) -> list[list[float]]:
    """E[T of level i] has so many times the component of level j."""
    total = float(sizes[0].sum())
    table = []
    for i, coarse in enumerate(groups):
        row = []
        for j, fine in enumerate(groups):
            if j <= i:
                row.append(total)
                continue
            parent = np.empty(len(sizes[j]), np.int64)
            parent[fine] = coarse
            row.append(float((sizes[j] ** 2 / sizes[i][parent]).sum()))
        table.append(row)
    return table
