"""How strongly a latent fires where it does."""

from __future__ import annotations

import numpy as np

from harness.interpretability.cell import CellLatents, Columns

BINS = 20


def histogram(cell: CellLatents) -> Columns:
    """`histogram`: on how many tokens each sampled latent's activation is in each of 20 equal bins [S, 20], from 0
    to its highest one; 0 throughout for a dead one."""
    found = np.zeros((len(cell.sample), BINS), np.int64)
    for counts, latent in zip(found, cell.sample, strict=True):
        _, values = cell.firings.of(int(latent))
        if len(values):
            counts[:] = np.histogram(values, BINS, (0.0, float(values.max())))[0]
    return {"histogram": found}
