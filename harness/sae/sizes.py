"""How an SAE's sizes follow from its recipe. Standard library only: plans use it where there is no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence


def layer_widths(width: int, multiples: Sequence[float]) -> list[int]:
    """Widths of added layers from their multiples of the activation width."""
    return [max(1, round(width * m)) for m in multiples]


def apportion(amount: int, parts: Sequence[float]) -> list[int]:
    """`amount` times each part, in whole numbers whose sum is as right as theirs; the largest remainders gain.

    As in (1/3, 1/3, 1/3) of 16: 6, 5, 5; and (1, 1) of 16: 16, 16.
    """
    exact = [amount * part for part in parts]
    whole = [math.floor(e + 1e-9) for e in exact]
    missing = round(sum(exact)) - sum(whole)
    for place in sorted(range(len(parts)), key=lambda i: whole[i] - exact[i])[:missing]:
        whole[place] += 1
    return whole
