"""Are latents found again by another training? Matched by the correlation of their activations on one text.

Shape letters: N latents of one SAE, M of the other, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import maximum_bipartite_matching

from harness.evaluation.measurements import Figures
from harness.interpretability.firings import Firings

# Pearson's correlation above which two latents count as the same; Paulo & Belrose 2025 (arXiv 2501.16615) have the
# same number, of the cosine of weights, which dense layers do not allow to compare
ALIKE = 0.7
ROUNDING = 1e-12  # of the mean square of a latent, what is left of it about its mean if it is constant
ROWS = 1024  # latents at a time; bounds the memory of the products


def found_again(firings: Firings, others: Sequence[Firings]) -> NDArray[np.float64] | None:
    """In what share of the other SAEs each latent has a partner: [N]; None where there is no other one.

    Partners correlate above 0.7 on the text, and are matched one to one, as many as possible; so each of two SAEs
    finds as many in the other one. A dead latent has none.
    Raises ValueError where the others were not read on the same tokens.
    """
    if not others:
        return None
    found = np.array([_partners(firings, other) >= 0 for other in others], float)
    shares: NDArray[np.float64] = found.mean(axis=0)
    return shares


def figures_of_pairs(shares: NDArray[np.float64], rates: NDArray[np.float64]) -> Figures:
    """The figures of a cell from all of its latents' shares of `found_again` [N] and firing rates [N].

    Of all, and not of the sample: what a sample adds to the error of one seed's figure would count several times
    in an interval over pairs of seeds.
    """
    found = {"found_again": float(shares.mean())}
    if rates.any():
        found["found_again_weighted"] = float(np.average(shares, weights=rates))
    return found


def _partners(one: Firings, other: Firings) -> NDArray[np.integer[Any]]:
    """The latent of the other SAE that each one is matched with, [N]; -1: with none."""
    if one.total != other.total:
        raise ValueError(f"expected firings on the same tokens, got {one.total} and {other.total} tokens")
    found: NDArray[np.integer[Any]] = maximum_bipartite_matching(alike(one, other), perm_type="column")
    return found


def alike(one: Firings, other: Firings) -> csr_array:
    """1 where latents of both correlate above 0.7, and nothing elsewhere: [N, M]."""
    return csr_array(vstack(list(_alike(one, other)), format="csr"))


def _alike(one: Firings, other: Firings) -> Iterator[csr_array]:
    """Of so many rows after another.

    Two latents that never fire together correlate negatively, so that products of the sparse activations have all
    correlations that matter.
    """
    (ours, mean, spread), (theirs, other_mean, other_spread) = _standing(one), _standing(other)
    theirs = theirs.T.tocsr()
    for start in range(0, ours.shape[0], ROWS):
        products = (ours[start : start + ROWS] @ theirs).tocoo()
        rows, columns = products.row + start, products.col
        covariance = products.data / one.total - mean[rows] * other_mean[columns]
        same = covariance > ALIKE * spread[rows] * other_spread[columns]
        places = (products.row[same], columns[same])
        yield csr_array((np.ones(same.sum(), np.int8), places), shape=products.shape)


def _standing(firings: Firings) -> tuple[csr_array, NDArray[np.float64], NDArray[np.float64]]:
    """Activations of all latents [N, T], their means [N] and standard deviations [N] over all tokens.

    Of a constant, which correlates with nothing, the latter is infinite.
    """
    size = (len(firings.counts), firings.total)
    values = csr_array((firings.values.astype(float), firings.tokens, firings.starts), shape=size)
    mean = values.sum(axis=1) / firings.total
    squares = values.power(2).sum(axis=1) / firings.total
    variance = squares - mean**2
    return values, mean, np.sqrt(np.where(variance > ROUNDING * squares, variance, np.inf))
