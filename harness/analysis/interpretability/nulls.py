"""What scores of latents are compared with: untrained SAEs, permuted explanations, baselines of other studies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.analysis.arms.arm import Arm, interval_columns
from harness.analysis.arms.statistics import mean_interval
from harness.analysis.interpretability.other_studies import OtherStudy
from harness.analysis.results.records import Figures, Null, StudyRecord
from harness.analysis.views.view import Row, View
from harness.metrics import FVU, Metric
from harness.study.interpretability import PERMUTED

GROUP = "interpretability"
CHANCE = 0.5  # of detection, which latents without a score have
Ends = tuple[float | None, float | None, float | None]  # a figure, and the ends of its interval


def columns_of(name: str) -> tuple[str, str, str]:
    """The columns of a figure and of the ends of its interval."""
    return name, f"{name}_low", f"{name}_high"


def null_rows(
    study: StudyRecord, arms: Sequence[Arm], metrics: Sequence[Metric], others: Mapping[str, OtherStudy]
) -> list[dict[str, Any]]:
    """The nulls table: FVU and scores of each null with 95 % intervals; no rows where no scores are asked for.

    `over`: what intervals are over: the latents of one SAE, or seeds. `lacking`: why a null has no figures.
    """
    if study.interpretability is None:
        return []
    shown = [metric for metric in metrics if metric is FVU or metric.group == GROUP]
    rows = [_row(name, null.label, "latents", _untrained(null), shown) for name, null in study.nulls.items()]
    baseline = next((arm for arm in arms if study.key(arm.levels) == study.key(study.baseline)), None)
    if baseline is not None and (figures := _permuted(baseline)):
        rows.append(_row(PERMUTED, "permuted explanations", "seeds", figures, shown))
    for name, other in others.items():
        label = name.replace("_", " ")
        rows.append(_row(name, label, "seeds", other.baseline(shown), shown, other.lacking))
    return rows


def _row(
    name: str, label: str, over: str, figures: Mapping[str, Any], metrics: Sequence[Metric], lacking: str = ""
) -> dict[str, Any]:
    known = {column: figures.get(column) for metric in metrics for column in columns_of(metric.name)}
    return {"null": name, "label": label, "over": over, "lacking": lacking, **known}


def _untrained(null: Null) -> Figures:
    low = {f"{name}_low": value for name, value in null.low.items()}
    high = {f"{name}_high": value for name, value in null.high.items()}
    return {**null.figures, **low, **high}


def _permuted(arm: Arm) -> Figures:
    """Detection by the explanations of other latents: over scored latents, and with all others at chance.

    Empty where nobody was asked.
    """
    alive = arm.values("detection_permuted")
    dead, unscored = arm.values("latents_dead"), arm.values("latents_unscored")
    lost = {seed: dead[seed] + unscored[seed] for seed in alive if seed in dead and seed in unscored}
    if not lost:
        return {}
    sample = [(1 - share) * alive[seed] + share * CHANCE for seed, share in lost.items()]
    return {
        **interval_columns("detection", mean_interval(sample)),
        **interval_columns("detection_alive", mean_interval([*alive.values()])),
    }


def above_null_rows(arms: Sequence[Row], nulls: Sequence[Row], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """One row for each arm and null: how far the arm's scores lie above the null's, with 95 % intervals.

    Of the scores that arms are compared by, in points.
    """
    scores = [metric for metric in metrics if metric.group == GROUP and metric.change == "points"]
    known = [null for null in nulls if not null["lacking"]]
    return [
        {"arm": arm["arm"], "null": null["null"], "label": null["label"], **_above(arm, null, scores)}
        for arm in arms
        for null in known
    ]


def _above(arm: Row, null: Row, scores: Sequence[Metric]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for score in scores:
        ends = difference(_ends(arm, score), _ends(null, score))
        found |= dict(zip(columns_of(score.effect), ends, strict=True))
    return found


def _ends(row: Row, metric: Metric) -> Ends:
    value, low, high = (row.get(column) for column in columns_of(metric.name))
    return _scaled(value, metric), _scaled(low, metric), _scaled(high, metric)


def _scaled(value: float | None, metric: Metric) -> float | None:
    return None if value is None else metric.scale * value


def difference(one: Ends, other: Ends) -> Ends:
    """One less the other, of two independent figures; no ends where one of them has none.

    MOVER: the interval of the difference from those of both (Zou & Donner 2008, equation 4; Newcombe 1998).
    """
    (a, a_low, a_high), (b, b_low, b_high) = one, other
    if a is None or b is None:
        return None, None, None
    if a_low is None or a_high is None or b_low is None or b_high is None:
        return a - b, None, None
    return a - b, a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def nulls_of(view: View) -> dict[str, Null]:
    """The nulls that have figures, by name."""
    names = [metric.name for metric in view.metrics]
    return {
        row["null"]: Null(
            label=row["label"],
            figures={name: row.get(name) for name in names},
            low={name: row.get(f"{name}_low") for name in names},
            high={name: row.get(f"{name}_high") for name in names},
        )
        for row in view.tables.get("nulls", ())
        if not row["lacking"]
    }


def warnings(view: View) -> Iterator[str]:
    """Nulls that the study asks for, and that are not there or say nothing about it."""
    for row in view.tables.get("nulls", ()):
        if row["lacking"]:
            yield f"The study names {row['null']} as a null, which is left out: {row['lacking']}."
