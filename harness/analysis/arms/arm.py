"""Arms: the cells that differ only in tuned values and seed, each seed at its chosen setting."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.analysis.arms.measured import Measured
from harness.analysis.arms.statistics import Interval
from harness.analysis.results.levels import Key, columns
from harness.analysis.results.records import CellRecord, StudyRecord
from harness.inference.crossfit import ChoiceError
from harness.metrics import DEAD, FVU, Metric
from harness.study.tuned_choice import Choice, choose, comparable


@dataclass(frozen=True)
class ChoiceOf:
    """The tuned settings that were compared, and what the choice between them adds to the error of the arm."""

    settings: tuple[Key, ...]
    error: ChoiceError


@dataclass(frozen=True)
class Arm:
    """One arm. `settings`: for each tuned setting the cells by seed, in the order of the study file.

    `choice_of`: see `harness.analysis.arms.choosing`; None where it adds nothing, as with one setting.
    """

    levels: dict[str, Any]
    label: str
    settings: dict[Key, dict[int, CellRecord]]
    choice: Choice[Key]
    choice_of: ChoiceOf | None = None

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

    @property
    def seeds(self) -> list[int]:
        """The reported seeds at which it has cells; fewer than the study's where it stopped at an earlier look."""
        return [seed for seed in self.choice.by_seed if any(seed in at for at in self.settings.values())]

    def at(self, study: StudyRecord, seeds: Sequence[int]) -> Arm:
        """The arm as it was when only these reported seeds were trained."""
        kept = {*seeds, *study.tuning_seeds}
        settings = {
            setting: {seed: cell for seed, cell in cells.items() if seed in kept}
            for setting, cells in self.settings.items()
        }
        return replace(self, settings=settings, choice=choose(_scores(settings), seeds, study.tuning_seeds))

    def figures(self, setting: Key, metric: str) -> dict[int, float]:
        """A held-out figure by seed at one setting, of all its complete cells that have one."""
        found = {
            seed: cell.figure(metric) for seed, cell in self.settings[setting].items() if cell.fvu is not None
        }
        return {seed: float(figure) for seed, figure in found.items() if figure is not None}

    def compared(self, seeds: Sequence[int]) -> tuple[list[Key], list[int]]:
        """The settings that are compared, and on which of `seeds`."""
        return comparable(_scores(self.settings), seeds)

    def searched(self, study: StudyRecord) -> list[int]:
        """The seeds on which its settings were compared."""
        return study.tuning_seeds if self.choice.selection == "on other seeds" else [*self.choice.by_seed]


def collect_arms(study: StudyRecord, cells: Sequence[CellRecord]) -> list[Arm]:
    """All arms that have cells, in the order of the study file."""
    by_key: dict[Key, list[CellRecord]] = {}
    for cell in cells:
        by_key.setdefault(study.key(cell.arm), []).append(cell)
    ordered = sorted(by_key, key=lambda key: study.rank(study.compared, key))
    levels = [dict(zip(study.compared, key, strict=True)) for key in ordered]
    labels = study.labels(levels) if study.compared else [study.name]
    return [
        _arm(study, named, label or study.name, by_key[key])
        for key, named, label in zip(ordered, levels, labels, strict=True)
    ]


def _arm(study: StudyRecord, levels: dict[str, Any], label: str, cells: list[CellRecord]) -> Arm:
    names = {study.setting(cell.tuned) for cell in cells}
    settings: dict[Key, dict[int, CellRecord]] = {}
    for name in sorted(names, key=lambda setting: study.rank(study.tuned, setting)):
        settings[name] = {cell.seed: cell for cell in cells if study.setting(cell.tuned) == name}
    return Arm(levels, label, settings, choose(_scores(settings), study.seeds_of(cells), study.tuning_seeds))


def _scores(settings: Mapping[Key, Mapping[int, CellRecord]]) -> dict[Key, dict[int, float]]:
    return {
        name: {seed: _score(cell) for seed, cell in by_seed.items() if state_of(cell) != "missing"}
        for name, by_seed in settings.items()
    }


def _score(cell: CellRecord) -> float:
    return math.inf if cell.chosen_by is None else cell.chosen_by


def arm_rows(study: StudyRecord, arms: Sequence[Arm], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """The arms table: axes, chosen values, seeds used and lost, then mean and interval of all `metrics`.

    `choice_factor`: how many times as wide the interval of the outcome that depends most on the tuned setting is,
    since another setting could have been chosen.
    """
    measured = [Measured.of(study, arms, metric) for metric in metrics]
    return [_arm_row(study, arm, place, measured) for place, arm in enumerate(arms)]


def _arm_row(study: StudyRecord, arm: Arm, place: int, measured: Sequence[Measured]) -> dict[str, Any]:
    states = Counter(state_of(cell) for cell in arm.reported.values())
    shown = list(arm.settings[arm.choice.shown].values())
    row = {
        "arm": arm.label,
        **columns(arm.levels),
        **columns(dict(zip(study.tuned, arm.choice.shown, strict=True))),
        "selection": arm.choice.selection,
        "agreement": f"{arm.choice.agreeing} of {len(arm.choice.by_seed)} seeds",
        "n": 0 if states["pruned"] else states["complete"],
        "diverged": states["diverged"],
        "pruned": states["pruned"],
        "failed": states["failed"],
        "missing": states["missing"],
    }
    widened = [one.estimates.widened(place) for one in measured if one.metric.change is not None]
    row["choice_factor"] = round(max(widened), 3) if study.tuned and arm.finished() else None
    for one in measured:
        row |= interval_columns(one.metric.name, one.interval(place))
        if one.metric is FVU:
            row["fvu_standard_error"] = one.standard_error(place)
    row |= _alive_ends(row, measured, place)
    # a tuned axis may change the size of the model: these are those of the shown setting
    return row | {"parameters": shown[0].parameters, "flops_per_token": shown[0].flops_per_token}


def _alive_ends(row: Mapping[str, Any], measured: Sequence[Measured], place: int) -> dict[str, float]:
    """The interval of the alive latents, which are those that are not dead: that of the dead ones turned round."""
    latents = next((one.totals[place] for one in measured if one.metric is DEAD), None)
    if latents is None or "alive" not in row or row[f"{DEAD.name}_low"] is None:
        return {}
    return {
        "alive_low": latents * (1 - row[f"{DEAD.name}_high"]),
        "alive_high": latents * (1 - row[f"{DEAD.name}_low"]),
    }


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
