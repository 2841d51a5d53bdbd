"""What happened to latents between the points of curves, from the deaths and revivals that these count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from harness.analysis.arms.arm import Arm
from harness.analysis.life.hazards import Dispersion, Events, dispersion
from harness.analysis.results.records import CellRecord, StudyRecord

KINDS = ("death", "revival")
MILLION = 1_000_000


@dataclass(frozen=True)
class Step:
    """What happened to one cell's latents between two points of its curve.

    `dead`: at its start. `first`: at its end, latents can be called dead for the first time.
    """

    start: int
    end: int
    latents: int
    dead: int
    died: int
    revived: int
    first: bool

    def events(self, kind: str) -> Events:
        """Deaths of the living or revivals of the dead; who died or revived was at risk for half of the time."""
        count, at_risk = (self.died, self.latents - self.dead) if kind == "death" else (self.revived, self.dead)
        return Events(count, (at_risk - count / 2) * (self.end - self.start) / MILLION)


Life: TypeAlias = list[
    list[Step]
]  # by seed, in the order of training; all seeds have steps between the same points


def lives_of(study: StudyRecord, arms: Sequence[Arm], curves: pl.DataFrame) -> dict[str, Life]:
    """By arm the steps of the cells that it is reported with; without arms whose curves do not count deaths."""
    known = curves.sort("tokens").partition_by("cell", as_dict=True)
    lives = {}
    for arm in arms:
        cells = [cell for cell in arm.finished().values() if (cell.cell,) in known]
        steps = [_steps(study, cell, known[cell.cell,]) for cell in cells]
        ends = [{(step.start, step.end, step.first) for step in seed} for seed in steps]
        common = set.intersection(*ends) if ends else set()
        if common:
            lives[arm.label] = [[s for s in seed if (s.start, s.end, s.first) in common] for seed in steps]
    return lives


def _steps(study: StudyRecord, cell: CellRecord, points: pl.DataFrame) -> list[Step]:
    levels = {**cell.arm, **cell.tuned}
    latents, window = study.latents_at(levels), study.dead_window_at(levels)
    if latents is None:
        return []
    figures = points.select("tokens", *(f"train_{name}_fraction" for name in ("dead", "died", "revived")))
    steps: list[Step] = []
    start, before = 0, 0.0  # nobody is dead before the first window is full
    for tokens, dead, died, revived in figures.iter_rows():
        if None not in (before, dead, died, revived):
            of_dead, of_died, of_revived = (round(latents * share) for share in (before, died, revived))
            steps.append(Step(start, tokens, latents, of_dead, of_died, of_revived, start < window))
        start, before = tokens, (0.0 if tokens < window else dead)
    return steps


def after_first(life: Life) -> Life:
    """Without the first window; nothing where there is no point after it."""
    later = [[step for step in steps if not step.first] for steps in life]
    return later if all(later) else []


def events_of(life: Life, kind: str) -> list[Events]:
    """Of each seed, all its steps together."""
    events = [[step.events(kind) for step in steps] for steps in life]
    return [Events(sum(e.count for e in seed), sum(e.exposure for e in seed)) for seed in events]


def dispersions(lives: Sequence[Life]) -> dict[str, Dispersion]:
    """Of deaths and of revivals: by how much seeds vary within these lives."""
    return {kind: dispersion(events_of(life, kind) for life in lives) for kind in KINDS}
