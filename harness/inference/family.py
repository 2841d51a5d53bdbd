"""Many comparisons at once."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import integrate, stats


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of Holm 1979: rejecting those up to a level keeps the chance of any false one below it."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def expected_extreme(count: int) -> float:
    """The expected largest of `count` independent standard normal numbers, 1.485 of nine.

    By so many standard errors is the best of equal arms better than they are: picking it is what makes it so.
    """

    def density(x: float) -> float:
        return float(x * count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1))

    return float(integrate.quad(density, -12, 12)[0])
