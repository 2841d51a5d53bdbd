"""What the tables say of a simulated study, beside what is true of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from benchmarks.coverage.design import Scenario, Truth
from benchmarks.coverage.studies import Simulated
from harness.analysis.arms.arm import Arm, arm_rows, collect_arms
from harness.analysis.arms.choosing import with_choice_errors
from harness.analysis.effects.comparisons import compare, compared_levels, judged_rows, pairs_of
from harness.analysis.results.records import StudyRecord
from harness.metrics import Metric, compared, metrics_at

OUTCOMES = {metric.short: metric for metric in compared(metrics_at("final")) if metric.short in ("fvu", "dead")}
OPEN = ("undecided", "no interval")  # verdicts after which an arm goes on to the next look

Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """Of one study by one outcome.

    arms [arms]: whether the arm's interval has its true value. effects: the same of the rows of one kind.
    false: whether any row of that kind says what is not true.
    """

    arms: tuple[bool, ...]
    effects: tuple[bool, ...]
    false: bool


def result(scenario: Scenario, truth: Truth, number: int) -> Result:
    """Simulate study `number` of a scenario, and compare the rows of its tables with the truth."""
    simulated = Simulated(scenario, np.random.default_rng([number, scenario.seeds, crc32(scenario.name.encode())]))
    study, arms, rows = analysed(simulated)
    outcome = OUTCOMES[scenario.outcome]
    own = arm_rows(study, arms, [outcome])
    true = _true_values(scenario, truth, arms, outcome)
    effects = [row for row in rows if row["kind"] == scenario.kind]
    changes = [change for name, change in _true_changes(study, arms, true, outcome) if name == scenario.kind]
    shown = np.exp(true) if outcome.change == "percent" else true
    margin = dict(scenario.indifference).get(outcome.short)
    held = [_within(row, outcome.name, value) for row, value in zip(own, shown, strict=True)]
    order = [[arm.levels for arm in arms].index(arm.levels) for arm in scenario.arms]
    return Result(
        tuple(held[place] for place in order),
        tuple(_within(row, outcome.effect, change) for row, change in zip(effects, changes, strict=True)),
        any(_false(row[outcome.verdict], c, margin) for row, c in zip(effects, changes, strict=True)),
    )


def analysed(simulated: Simulated) -> tuple[StudyRecord, list[Arm], list[Row]]:
    """The study with its arms and effects; at planned looks, only arms that are undecided go on.

    What the stage `tables` does, but for tables, rows and outcomes that the scenario is not about, which take most
    of its time. `benchmarks.coverage.reported` checks that the verdicts are the same.
    """
    scenario = simulated.scenario
    outcome = OUTCOMES[scenario.outcome]
    kinds = ("pair",) if scenario.kind == "pair" else ("marginal", "pair")
    looks = scenario.looks or (scenario.seeds,)
    trained = [looks[0]] * len(scenario.arms)
    for look, following in zip(looks, (*looks[1:], None), strict=True):
        study = simulated.study(max(trained))
        arms = with_choice_errors(study, collect_arms(study, simulated.cells(trained)))
        rows = judged_rows(study, compare(study, arms, [outcome], kinds), [outcome])
        open_arms = _undecided(rows, scenario)
        if following is None or not open_arms or max(trained) < look:
            break
        trained = [following if arm in open_arms else n for arm, n in enumerate(trained)]
    simulated.trained = trained
    return study, arms, rows


def _undecided(rows: Sequence[Row], scenario: Scenario) -> set[int]:
    """The arms of a study with one axis whose comparison with the first is undecided, and the first one."""
    if not scenario.looks:
        return set()
    pairs = [row for row in rows if row["kind"] == "pair"]
    found = {place for place, row in enumerate(pairs, start=1) if row[f"{scenario.outcome}_verdict"] in OPEN}
    return found | {0} if found else found


def _true_values(scenario: Scenario, truth: Truth, arms: Sequence[Arm], outcome: Metric) -> np.ndarray:
    """[arms] in the order of the tables, on the scale on which changes add up: log FVU, dead share."""
    by_levels = [arm.levels for arm in scenario.arms]
    order = [by_levels.index(arm.levels) for arm in arms]
    return (truth.log_fvu if outcome.change == "percent" else truth.dead)[order]


def _true_changes(
    study: StudyRecord, arms: Sequence[Arm], true: np.ndarray, outcome: Metric
) -> Iterator[tuple[str, float]]:
    """Kind and true change of each row of the effects table, in its order."""
    place = {id(arm): number for number, arm in enumerate(arms)}
    for axis, level in compared_levels(study):
        pairs = list(pairs_of(study, arms, axis, level))
        changes = [float(true[place[id(pair.arm)]] - true[place[id(pair.reference)]]) for pair in pairs]
        for kind, change in [("marginal", float(np.mean(changes)))] * bool(pairs) + [("pair", c) for c in changes]:
            yield kind, 100 * np.expm1(change) if outcome.change == "percent" else outcome.scale * change


def _within(row: Row, name: str, value: float) -> bool:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return low is None or low <= value <= high


def _false(verdict: str, change: float, margin: float | None) -> bool:
    """Whether a verdict says what is not true."""
    if verdict in ("lower", "higher"):
        return change == 0 or (change > 0) != (verdict == "higher")
    return verdict.startswith("equal") and margin is not None and abs(change) >= margin * (1 - 1e-9)
