"""What `harness compare` writes to files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.analysis.results.levels import levels_in
from harness.analysis.studies.compared import Both, Result, Row
from harness.files import write_atomically
from harness.files import write_json as write_json_file
from harness.study.labels import describe

Groups = Sequence[Sequence[tuple[Result, Row]]]


def write_csv(path: Path, groups: Groups) -> None:
    """One row per arm; rows with the same number in `recipe` train the same recipe on the same activations."""
    rows = [
        {"recipe": number, **_arm(result, arm)}
        for number, group in enumerate(groups, start=1)
        for result, arm in group
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def write_json(path: Path, results: Sequence[Result], groups: Groups, both: Sequence[Both]) -> None:
    """Keys `studies`, `same_recipe` (groups of arms) and `pairs` (of studies)."""
    studies = [
        {
            "name": result.name,
            "folder": str(result.folder),
            "source": result.study.source,
            "environment": result.study.environment,
        }
        for result in results
    ]
    arms = [[_arm(result, arm) for result, arm in group] for group in groups]
    write_json_file(path, {"studies": studies, "same_recipe": arms, "pairs": [_pair(two) for two in both]})


def _arm(result: Result, arm: Row) -> dict[str, Any]:
    """The row of the arms table, with the tuned setting in words in the place of its axes' columns."""
    figures = {name: value for name, value in arm.items() if not name.startswith("axis_")}
    return {"study": result.name, **figures, "tuned": describe(levels_in(arm, result.study.tuned))}


def _pair(two: Both) -> Mapping[str, Any]:
    return {
        "studies": [two.first.name, two.second.name],
        "shared_cells": [asdict(arm) for arm in two.shared],
        "reruns": None if two.reruns is None else asdict(two.reruns),
        "verdicts": [
            {
                "kind": verdicts.kind,
                "agree": verdicts.agree,
                "differ": [
                    {
                        "metric": metric.name,
                        **{name: rows[0][name] for name in ("axis", "level", "reference", "holding")},
                        "verdicts": [row[metric.verdict] for row in rows],
                        "changes": [row[metric.effect] for row in rows],
                    }
                    for metric, *rows in verdicts.differ
                ],
            }
            for verdicts in two.verdicts
        ],
    }
