"""Where the variance between cells comes from: arms, seeds, or the seeds of each arm on their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.analysis.arms.arm import Arm
from harness.analysis.sentences.sentence import Sentence
from harness.analysis.sentences.text import estimate
from harness.analysis.views.view import Row, View
from harness.inference.constants import ALPHA
from harness.metrics import Metric

COMPONENTS = ("arm", "seed", "arm by seed")


@dataclass(frozen=True)
class Component:
    """A variance component with its 95 % interval; `estimate` may come out below 0 and is then given as 0."""

    estimate: float
    low: float
    high: float
    df: int


def variance_rows(arms: Sequence[Arm], outcomes: Sequence[Metric]) -> list[dict[str, Any]]:
    """The variance table: for each outcome a row for each component of arm + seed + arm by seed.

    Of the arms that have a result at every seed at which any arm has one; no rows where these are not at least two
    by two, and none of metrics of pairs, whose figures are of no single seed. `arm by seed` is what is left of a
    cell, and so holds the noise of a rerun on another processor, too.
    `sd`: in the unit of changes, that of log FVU in percent; `share`: of the sum of the three variances.
    """
    return [row for outcome in outcomes if not outcome.pairs for row in _outcome_rows(arms, outcome)]


def _outcome_rows(arms: Sequence[Arm], outcome: Metric) -> Iterator[dict[str, Any]]:
    table = _table(arms, outcome)
    if min(table.shape) < 2:
        return
    components = two_way(table)
    total = sum(component.estimate for component in components.values())
    for name, component in components.items():
        yield {
            "outcome": outcome.name,
            "component": name,
            "unit": outcome.change_unit,
            "arms": table.shape[0],
            "seeds": table.shape[1],
            "df": component.df,
            "sd": math.sqrt(component.estimate),
            "sd_low": math.sqrt(component.low),
            "sd_high": math.sqrt(component.high),
            "share": component.estimate / total if total else None,
        }


def _table(arms: Sequence[Arm], outcome: Metric) -> NDArray[np.float64]:
    """[arms, seeds] in the unit of changes; without arms that lack a seed which others have."""
    known = [values for arm in arms if (values := arm.values(outcome.name))]
    seeds = sorted({seed for values in known for seed in values})
    rows = [[values[seed] for seed in seeds] for values in known if values.keys() == set(seeds)]
    if outcome.change == "percent":
        rows = [[100 * math.log(value) for value in row] for row in rows if min(row) > 0]
        return np.array(rows).reshape(len(rows), len(seeds))
    return outcome.scale * np.array(rows).reshape(len(rows), len(seeds))


def two_way(table: NDArray[np.float64]) -> dict[str, Component]:
    """Variance components of a two-way layout without replication, by the method of moments.

    Intervals: of what is left, by chi-squared; of the others, the modified large-sample ones of Ting et al. 1990
    (Burdick & Graybill 1992, Confidence Intervals on Variance Components, section 3.3).
    """
    arms, seeds = table.shape
    arm, seed = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    rest = table - arm - seed + table.mean()
    df = {"arm": arms - 1, "seed": seeds - 1, "arm by seed": (arms - 1) * (seeds - 1)}
    squares = {
        "arm": seeds * float(arm.var(ddof=1)),
        "seed": arms * float(seed.var(ddof=1)),
        "arm by seed": float((rest**2).sum()) / df["arm by seed"],
    }
    left = squares["arm by seed"], df["arm by seed"]
    return {
        "arm": _difference((squares["arm"], df["arm"]), left, seeds),
        "seed": _difference((squares["seed"], df["seed"]), left, arms),
        "arm by seed": Component(left[0], left[0] * _below(left[1]), left[0] * _above(left[1]), left[1]),
    }


def _difference(larger: tuple[float, int], smaller: tuple[float, int], times: int) -> Component:
    """(larger - smaller) / times, of two mean squares with their degrees of freedom."""
    (one, df_one), (two, df_two) = larger, smaller
    estimate = (one - two) / times
    g1, g2 = 1 - _below(df_one), 1 - _below(df_two)
    h1, h2 = _above(df_one) - 1, _above(df_two) - 1
    f_low = float(stats.f.ppf(1 - ALPHA / 2, df_one, df_two))
    f_high = float(stats.f.ppf(ALPHA / 2, df_one, df_two))
    g12 = ((f_low - 1) ** 2 - (g1 * f_low) ** 2 - h2**2) / f_low
    h12 = ((1 - f_high) ** 2 - (h1 * f_high) ** 2 - g2**2) / f_high
    below = (g1 * one) ** 2 + (h2 * two) ** 2 + g12 * one * two
    above = (h1 * one) ** 2 + (g2 * two) ** 2 + h12 * one * two
    low, high = estimate - math.sqrt(max(0.0, below)) / times, estimate + math.sqrt(max(0.0, above)) / times
    return Component(max(0.0, estimate), max(0.0, low), max(0.0, high), df_one)


def _below(df: int) -> float:
    """The lower end of a variance's interval, as a multiple of its estimate."""
    return df / float(stats.chi2.ppf(1 - ALPHA / 2, df))


def _above(df: int) -> float:
    return df / float(stats.chi2.ppf(ALPHA / 2, df))


def sentences(view: View) -> list[Sentence]:
    """One for each outcome, on how much a seed shifts all arms and how much it shifts each on its own."""
    rows = list(enumerate(view.tables["variance"], start=1))
    found = []
    for outcome in view.outcomes:
        own = {row["component"]: (place, row) for place, row in rows if row["outcome"] == outcome.name}
        if own:
            (_, arm), (_, seed), (place, rest) = (own[name] for name in COMPONENTS)
            text = (
                f"{outcome.label}, {arm['arms']} arms at {arm['seeds']} seeds: standard deviation of arms "
                f"{_deviation(arm)}, of a seed's shift of all arms alike {_deviation(seed)}, of what is left "
                f"{_deviation(rest)}."
            )
            if seed["sd_low"] > 0 and seed["sd"] > rest["sd"]:
                text += (
                    " The shift of all arms alike is in the intervals of differences, though it has no part in a "
                    "difference at the same seeds: they are wider than they need be."
                )
            found.append(Sentence(text, "variance", place))
    return found


def _deviation(row: Row) -> str:
    """As in `1.04 % [0.50, 6.69]`."""
    return estimate(row, "sd", 2, unit=f" {row['unit']}" if row["unit"] else "")
