"""Constants of all inference; docs/statistics.md says what each was tested with."""

from __future__ import annotations

import math

from scipy import special

ALPHA = 0.05  # error rate of a test, and of a family of tests
CONFIDENCE = 1 - ALPHA
POWER = 0.8  # of the number of seeds that would settle what is undecided


def t_quantile(tail: float, df: float) -> float:
    """The number that Student's t exceeds in `tail` of cases; the normal one where df is infinite."""
    return float(-special.ndtri(tail) if math.isinf(df) else -special.stdtrit(df, tail))
