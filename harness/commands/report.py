"""`harness report`: tables, figures, the report page and a summary, from the results of a sweep."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from harness.commands.command import databases_arguments, load, results_argument, study_argument
from harness.commands.paths import check_writable
from harness.commands.publishing import publish
from harness.errors import UserError

STEPS = ("tables", "figures", "page", "summary")


def report_arguments(parser: ArgumentParser) -> None:
    study_argument(parser)
    results_argument(parser)
    databases_arguments(parser)
    parser.add_argument("--step", choices=STEPS, help="make only this part (default: all of them, in this order)")


def report(options: Namespace, console: Console) -> None:
    from harness.analysis.figures import make_figures
    from harness.analysis.report import make_report
    from harness.analysis.summary import summary
    from harness.analysis.tables import make_tables
    from harness.sweep.export import check_owner

    study, workspace, results = load(options)
    check_owner(results, study, workspace)
    if not (results / "cells.jsonl").exists():
        raise UserError(f"{results}: expected the results of a sweep; to make them: harness run {options.study}")

    folders = [results / step for step in ("tables", "figures") if options.step in (None, step)]
    check_writable(*([results, *folders] if options.step != "summary" else []))

    def say(results: Path) -> None:
        console.print(summary(results), crop=False)
        publish(study, workspace, results, console)
        console.print("\nharness ui optuna    opens Optuna's dashboard\nharness ui mlflow    opens MLflow's UI")

    makers: tuple[Callable[[Path], object], ...] = (make_tables, make_figures, make_report, say)
    for step, make in zip(STEPS, makers, strict=True):
        if options.step in (None, step):
            make(results)
