"""Windows as points: near each other where the language model sees alike in them.

Shape letters: M windows, L tokens of a window, T kept positions of the text, I width of an activation.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUMBERS_AT_ONCE = 2**24  # of activations that are gathered


def embeddings_of(x: Tensor, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """A direction per window [M, I], of length 1: the cosine of two says how alike the windows are.

    It is the mean of the activations [T, I] at the window's tokens, that is, of what SAEs read; without the mean
    of all windows, and with each dimension scaled by its standard deviation over windows. Without that, the few
    dimensions in which language models have huge activations would decide everything, as would the mean, which
    all windows share (Ethayarajh 2019, arXiv 1909.00512).
    rows [M, L]: of each token its row of `x`, -1 where it has none; each window has at least one.
    """
    size = max(1, NUMBERS_AT_ONCE // (rows.shape[1] * x.shape[1]))
    means = torch.cat([_means(x, part) for part in torch.split(torch.from_numpy(rows), size)])
    centred = means - means.mean(0)
    spread = centred.square().mean(0).sqrt()
    scaled = centred / torch.where(spread > 0, spread, 1)
    return torch.nn.functional.normalize(scaled, dim=1).numpy()


def _means(x: Tensor, rows: Tensor) -> Tensor:
    """Of the activations of each window: [m, I]."""
    there = (rows >= 0)[..., None]
    return (x[rows.clamp(min=0)] * there).sum(1) / there.sum(1)
