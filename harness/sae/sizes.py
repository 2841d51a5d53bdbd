"""How an SAE's sizes follow from its recipe. Standard library only: plans use it where there is no torch."""

from __future__ import annotations

from collections.abc import Sequence


def layer_widths(width: int, multiples: Sequence[float]) -> list[int]:
    """Widths of added layers from their multiples of the activation width."""
    return [max(1, round(width * m)) for m in multiples]


def shares(total: int, parts: int) -> list[int]:
    """`total` in `parts` whole numbers that differ by one at most, the larger ones first."""
    return [total // parts + (part < total % parts) for part in range(parts)]
