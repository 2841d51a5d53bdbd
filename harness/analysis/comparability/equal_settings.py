"""Effects at equal tuned values: both arms at one setting, instead of each at its best.

Dead latents may follow a tuned value (the learning rate above all) more than they follow the arm. Where two arms
are best at different values, their comparison is of these values, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.analysis.arms.arm import Arm
from harness.analysis.comparability.planes import REPORTED, TUNING
from harness.analysis.effects.comparisons import Comparison, compare, judged_rows
from harness.analysis.results.levels import Key, columns
from harness.analysis.results.records import StudyRecord
from harness.metrics import Metric
from harness.study.tuned_choice import Choice


def with_equal_rows(
    study: StudyRecord, arms: Sequence[Arm], outcomes: Sequence[Metric], rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The effects table: its `rows`, then those of kind `equal`, one a pair of arms and setting that both have.

    Two more columns: the tuned axes, null where each arm stands at its best, and `seeds`, which ones a row is of.
    """
    best = [row | columns(dict.fromkeys(study.tuned)) | {"seeds": REPORTED} for row in rows]
    order = {_pair(row): place for place, row in enumerate(rows) if row["kind"] == "pair"}
    found = [found for setting in _settings(study, arms) for found in _at(study, arms, outcomes, setting)]
    found.sort(key=lambda pair: order.get(_pair(pair[1].row), len(rows)))
    equal = judged_rows(study, [comparison for _, comparison in found], outcomes)
    return best + [row | {"seeds": seeds} for (seeds, _), row in zip(found, equal, strict=True)]


def at_setting(arm: Arm, setting: Key, seeds: Iterable[int]) -> Arm | None:
    """The arm as if this had been its only setting, on these seeds; None where it has no cell there."""
    cells = {seed: cell for seed, cell in arm.settings.get(setting, {}).items() if seed in seeds}
    if not cells:
        return None
    choice: Choice[Key] = Choice(setting, dict.fromkeys(seeds, setting), "not tuned")
    return Arm(arm.levels, arm.label, {setting: cells}, choice)


def on_seeds(study: StudyRecord, seeds: Sequence[int]) -> StudyRecord:
    """The study as if these had been its only seeds."""
    return study.model_copy(update={"seeds": list(seeds), "tuning_seeds": []})


def _settings(study: StudyRecord, arms: Sequence[Arm]) -> list[Key]:
    """The settings that some arm has, in the order of the study file; none where nothing is tuned."""
    if not study.tuned:
        return []
    return sorted({s for arm in arms for s in arm.settings}, key=lambda setting: study.rank(study.tuned, setting))


def _at(
    study: StudyRecord, arms: Sequence[Arm], outcomes: Sequence[Metric], setting: Key
) -> list[tuple[str, Comparison]]:
    """On the reported seeds where both arms have results at the setting; else on the tuning seeds."""
    found: dict[tuple[Any, ...], tuple[str, Comparison]] = {}
    for name, seeds in ((REPORTED, study.seeds), (TUNING, study.tuning_seeds)):
        there = [restricted for arm in arms if (restricted := at_setting(arm, setting, seeds)) is not None]
        for comparison in compare(on_seeds(study, seeds), there, outcomes, ("equal",), setting):
            before = found.get(_pair(comparison.row))
            if before is None or not _has_result(before[1]):
                found[_pair(comparison.row)] = name, comparison
    return list(found.values())


def _has_result(comparison: Comparison) -> bool:
    return bool(min(comparison.row["n"], comparison.row["n_reference"]))


def _pair(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["axis"], row["level"], row["holding"]
