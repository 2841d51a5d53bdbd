"""Writes the figures of a report to Optuna and MLflow, so that their dashboards show the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.errors import UserError
from harness.metrics import curve_columns, metrics_at

if TYPE_CHECKING:
    from harness.records.reported import Reported, ReportedArm
    from harness.study.spec import Study
    from harness.workspace import Workspace

Row = dict[str, Any]


def publish(study: Study, workspace: Workspace, results: Path, console: Console) -> None:
    """Write what the tables say to the databases. One that cannot be reached is updated by the next report."""
    optuna = workspace.storage_url or (workspace.runs / "optuna.db").exists()
    mlflow = workspace.tracking_url or (workspace.runs / "mlflow.db").exists()
    if not (optuna or mlflow):
        return
    from harness.records.reported import write_to_mlflow, write_to_optuna, writing
    from harness.sweep.study_recorder import MLFLOW, OPTUNA, opening

    said = published(results)
    tellers = (
        (optuna, OPTUNA, workspace.storage, write_to_optuna),
        (mlflow, MLFLOW, workspace.tracking, write_to_mlflow),
    )
    for there, name, url, tell in tellers:
        if there:
            try:
                with opening(name, url), writing(study, workspace):
                    tell(study, workspace, said)
            except UserError as error:
                console.print(f"{name} does not have this report ({error}); the next `harness report` adds it")


def published(results: Path) -> Reported:
    """The arms, and the cells that their means are over, from the tables."""
    from harness.analysis.page.contents import LATENTS
    from harness.analysis.results.files import read_table
    from harness.records.reported import Reported

    arms, seeds, curves = (read_table(results, name).to_dicts() for name in ("arms", "seeds", "curves"))
    # An arm with a pruned seed has no mean: the mean over the seeds that were not stopped would be too low.
    without_mean = {row["arm"] for row in arms if row["pruned"]}
    return Reported(
        reported=frozenset(row["cell"] for row in seeds if row["cell"] and row["arm"] not in without_mean),
        arms=[_arm(row, [point for point in curves if point["arm"] == row["arm"]]) for row in arms],
        page=results / "report.html",
        latents=results / LATENTS,
        figures=sorted((results / "figures").glob("*.png")),
    )


def _arm(row: Row, points: list[Row]) -> ReportedArm:
    from harness.records.reported import ReportedArm

    figures = [
        *_with_intervals(row, [metric.name for metric in metrics_at("final")]),
        "n",
        "diverged",
        "failed",
        "missing",
        "pruned",
        "parameters",
        "flops_per_token",
    ]
    return ReportedArm(
        label=row["arm"],
        parameters={
            _parameter(name): str(value)
            for name, value in row.items()
            if name not in (*figures, "arm") and value is not None
        },
        figures=_finite(row, figures),
        curve={
            point["trained_tokens"]: {
                name.replace("_", "/", 1): value
                for name, value in _finite(point, _with_intervals(point, curve_columns())).items()
            }
            for point in points
        },
    )


def _parameter(column: str) -> str:
    """A recipe field has the same name here as among the parameters of a cell's run."""
    from harness.study.recipe import RECIPE_FIELDS

    name = column.removeprefix("axis_")
    return name if name in RECIPE_FIELDS else column


def _with_intervals(row: Row, means: Iterable[str]) -> list[str]:
    """Those of the means that the row has, each with the two ends of its interval."""
    return [column for name in means if name in row for column in (name, f"{name}_low", f"{name}_high")]


def _finite(row: Row, names: list[str]) -> dict[str, float]:
    return {name: float(row[name]) for name in names if row[name] is not None and math.isfinite(row[name])}
