"""Contrasts of arms' means, one by one and tested together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from harness.analysis.arms.measured import Measured, Weights
from harness.analysis.arms.statistics import Interval

MOST_DF = 1e6  # as good as infinitely many


@dataclass(frozen=True)
class FTest:
    """Are all of several contrasts 0? `df`: their number, and the degrees of freedom of their variance."""

    f: float
    df: tuple[int, float]
    p: float


def change_of(measured: Measured, weights: Weights) -> Interval | None:
    """A contrast in the unit of changes, percent or points; None where one of its arms has no figure."""
    value, contrast = measured.value(weights), measured.contrast(weights)
    if value is None:
        return None
    low, high = (None, None) if contrast is None else measured.ends(contrast)
    return Interval(measured.changed(value), low, high, min(len(measured.values[arm]) for arm in weights))


def f_test(measured: Measured, contrasts: Sequence[Weights]) -> FTest | None:
    """The F test that all of these contrasts, none of which follows from the others, are 0.

    Variances are those of `harness.inference`, and so differ between arms; degrees of freedom are Satterthwaite's
    for the sum of the contrasts' variances. None where an arm has fewer than two seeds, or seeds all alike.
    """
    arms = sorted({arm for weights in contrasts for arm in weights})
    means = [mean.mean for arm in arms if (mean := measured.estimates.means[arm]) is not None]
    if not contrasts or len(means) < len(arms):
        return None
    variances = measured.estimates.squared_errors[arms]
    if not variances.all():
        return None
    rows = [[weights.get(arm, 0.0) for arm in arms] for weights in contrasts]
    table = np.array(rows)  # [contrasts, arms]
    values = table @ np.array(means)
    f = float(values @ np.linalg.solve(table * variances @ table.T, values)) / len(contrasts)
    sizes = np.sqrt((table**2).sum(axis=0))
    df = measured.estimates.df({arm: float(size) for arm, size in zip(arms, sizes, strict=True)})
    df = min(df, MOST_DF)
    return FTest(f, (len(contrasts), df), float(stats.f.sf(f, len(contrasts), df)))


def f_columns(name: str, test: FTest | None) -> dict[str, Any]:
    """`name_f`, its two degrees of freedom and `name_p`."""
    return {
        f"{name}_f": None if test is None else test.f,
        f"{name}_df": None if test is None else test.df[0],
        f"{name}_df_seeds": None if test is None else test.df[1],
        f"{name}_p": None if test is None else test.p,
    }


def f_words(row: Mapping[str, Any], name: str) -> str:
    """A test's columns in words, as in `F(2, 18) = 422, p < 0.001`."""
    p = row[f"{name}_p"]
    shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"F({row[f'{name}_df']}, {row[f'{name}_df_seeds']:.0f}) = {row[f'{name}_f']:.3g}, {shown}"
