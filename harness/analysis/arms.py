"""Arms: the cells that differ only in tuned values and seed, each seed at its chosen setting."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.levels import Key, columns
from harness.analysis.records import CellRecord, StudyRecord
from harness.analysis.statistics import Interval, mean_interval
from harness.study.tuned_choice import Choice, choose


@dataclass(frozen=True)
class Arm:
    """One arm. `settings`: for each tuned setting the cells by seed, in the order of the study file."""

    levels: dict[str, Any]
    label: str
    settings: dict[Key, dict[int, CellRecord]]
    choice: Choice[Key]

    @property
    def reported(self) -> dict[int, CellRecord | None]:
        """For each seed the cell that it is reported with, or None where that cell was never listed."""
        return {seed: self.settings[s].get(seed) for seed, s in self.choice.by_seed.items()}

    def finished(self) -> dict[int, CellRecord]:
        """By seed the complete cells that it is reported with; none at all where a seed was pruned.

        Its figures are censored, and the mean of those that were not worth stopping would look too good.
        """
        cells = {seed: cell for seed, cell in self.reported.items() if cell is not None}
        if any(cell.state == "pruned" for cell in cells.values()):
            return {}
        return {seed: cell for seed, cell in cells.items() if cell.chosen_by is not None}

    def values(self, metric: str) -> dict[int, float]:
        """A held-out figure of each seed that is finished and has one."""
        figures = {seed: cell.figure(metric) for seed, cell in self.finished().items()}
        return {seed: float(figure) for seed, figure in figures.items() if figure is not None}

    def searched(self, study: StudyRecord) -> list[int]:
        """The seeds on which its settings were compared."""
        return study.tuning_seeds if self.choice.selection == "on other seeds" else study.seeds


def collect_arms(study: StudyRecord, cells: Sequence[CellRecord]) -> list[Arm]:
    """All arms that have cells, in the order of the study file."""
    keys = {study.key(cell.arm) for cell in cells}
    ordered = sorted(keys, key=lambda key: study.rank(study.compared, key))
    levels = [dict(zip(study.compared, key, strict=True)) for key in ordered]
    labels = study.labels(levels) if study.compared else [study.name]
    return [
        _arm(study, named, label or study.name, [cell for cell in cells if study.key(cell.arm) == key])
        for key, named, label in zip(ordered, levels, labels, strict=True)
    ]


def _arm(study: StudyRecord, levels: dict[str, Any], label: str, cells: list[CellRecord]) -> Arm:
    names = {study.setting(cell.tuned) for cell in cells}
    settings: dict[Key, dict[int, CellRecord]] = {}
    for name in sorted(names, key=lambda setting: study.rank(study.tuned, setting)):
        settings[name] = {cell.seed: cell for cell in cells if study.setting(cell.tuned) == name}
    scores = {
        name: {seed: _score(cell) for seed, cell in by_seed.items() if state_of(cell) != "missing"}
        for name, by_seed in settings.items()
    }
    return Arm(levels, label, settings, choose(scores, study.seeds, study.tuning_seeds))


def _score(cell: CellRecord) -> float:
    return math.inf if cell.chosen_by is None else cell.chosen_by


def arm_rows(study: StudyRecord, arms: Sequence[Arm], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The arms table: axes, chosen values, seeds used and lost, then mean and interval of all `metrics`."""
    return [_arm_row(study, arm, metrics) for arm in arms]


def _arm_row(study: StudyRecord, arm: Arm, metrics: Sequence[str]) -> dict[str, Any]:
    states = Counter(state_of(cell) for cell in arm.reported.values())
    shown = list(arm.settings[arm.choice.shown].values())
    row = {
        "arm": arm.label,
        **columns(arm.levels),
        **columns(dict(zip(study.tuned, arm.choice.shown, strict=True))),
        "selection": arm.choice.selection,
        "agreement": f"{arm.choice.agreeing} of {len(study.seeds)} seeds",
        "n": 0 if states["pruned"] else states["complete"],
        "diverged": states["diverged"],
        "pruned": states["pruned"],
        "failed": states["failed"],
        "missing": states["missing"],
    }
    for metric in metrics:
        row |= interval_columns(metric, mean_interval(list(arm.values(metric).values())))
    # a tuned axis may change the size of the model: these are those of the shown setting
    return row | {"parameters": shown[0].parameters, "flops_per_token": shown[0].flops_per_token}


def seed_rows(study: StudyRecord, arms: Sequence[Arm], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """One row an arm and seed: the setting at which the seed is reported, state, SAE and `metrics`."""
    return [_seed_row(study, arm, seed, cell, metrics) for arm in arms for seed, cell in arm.reported.items()]


def _seed_row(
    study: StudyRecord, arm: Arm, seed: int, cell: CellRecord | None, metrics: Sequence[str]
) -> dict[str, Any]:
    known = cell if cell is not None and cell.chosen_by is not None else None
    return {
        "arm": arm.label,
        **columns(arm.levels),
        "seed": seed,
        **columns(dict(zip(study.tuned, arm.choice.by_seed[seed], strict=True))),
        "cell": cell.cell if cell is not None else None,
        "state": state_of(cell),
        "sae": cell.sae if cell is not None else None,
        **{metric: None if known is None else known.figure(metric) for metric in metrics},
    }


def state_of(cell: CellRecord | None) -> str:
    """The cell's state; `missing` where it was never listed."""
    return "missing" if cell is None else cell.state


def interval_columns(name: str, interval: Interval | None) -> dict[str, float | None]:
    """An interval as three columns: `name`, `name_low`, `name_high`."""
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
