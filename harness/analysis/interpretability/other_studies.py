"""Studies whose baselines are nulls of this one, read from the folders beside its own results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.arms.arm import arm_rows, collect_arms
from harness.analysis.arms.choosing import with_choice_errors
from harness.analysis.results.files import read_cells, read_study
from harness.analysis.results.records import CellRecord, StudyRecord
from harness.errors import UserError
from harness.metrics import Metric

SAME = ("latents", "k")  # settings of the recipe that both have in common


@dataclass(frozen=True)
class OtherStudy:
    """`lacking`: why its baseline is no null of this study, empty where it is one; without study there is none."""

    study: StudyRecord | None
    cells: Sequence[CellRecord]
    lacking: str = ""

    def baseline(self, metrics: Sequence[Metric]) -> dict[str, Any]:
        """The row of its baseline in its arms table; empty where it is no null."""
        if self.study is None or self.lacking:
            return {}
        arms = with_choice_errors(self.study, collect_arms(self.study, self.cells))
        key = self.study.key(self.study.baseline)
        rows = zip(arms, arm_rows(self.study, arms, metrics), strict=True)
        return next((row for arm, row in rows if self.study.key(arm.levels) == key), {})


def read_other_studies(results: Path, study: StudyRecord) -> dict[str, OtherStudy]:
    """Those that the study names under `interpretability: {nulls: ...}`."""
    asked = study.interpretability or {}
    return {name: _read(results.parent / name, study) for name in asked.get("nulls", ())}


def _read(results: Path, study: StudyRecord) -> OtherStudy:
    try:
        other = read_study(results)
        cells = read_cells(results, other)
    except UserError as failure:
        return OtherStudy(None, (), str(failure))
    return OtherStudy(other, cells, "; ".join(_differences(study, other)))


def _differences(study: StudyRecord, other: StudyRecord) -> Iterator[str]:
    """In what its latents were measured otherwise, so that its scores say nothing about the study's."""
    here, there = study.interpretability or {}, other.interpretability
    if there is None:
        yield "it has no `interpretability`"
        return
    pairs = {name: (here.get(name), there.get(name)) for name in {**here, **there} if name != "nulls"}
    pairs |= {name: (study.recipe.get(name), other.recipe.get(name)) for name in SAME}
    for name, (wanted, found) in pairs.items():
        if wanted != found:
            yield f"{name}: expected {wanted} as here, got {found}"
