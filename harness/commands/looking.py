"""Commands that show a study before, while and after it runs."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from harness.commands.cells import cells_of, store_of
from harness.commands.command import (
    databases_arguments,
    load,
    port,
    results_argument,
    study_argument,
    workspace_of,
)
from harness.commands.paths import check_writable
from harness.commands.publishing import publish
from harness.errors import UserError

STEPS = ("tables", "figures", "page", "summary")


def plan(options: Namespace, console: Console) -> None:
    from harness.commands.plan_table import show_plan
    from harness.study.fit import check_fits

    study, workspace, _ = load(options)
    check_fits(study, study.source.stored.tokens, study.source.path)
    prepared = study.source.store(workspace.data).exists()
    cells = cells_of(study, workspace) if prepared else None
    source = store_of(study, workspace).fingerprint if prepared else None
    show_plan(study, workspace, cells, source, console)


def status_arguments(parser: ArgumentParser) -> None:
    study_argument(parser)
    results_argument(parser)
    parser.add_argument("--follow", action="store_true", help="repeat every two seconds until all cells are done")


def status(options: Namespace, console: Console) -> None:
    from harness.commands.cell_states import show_status

    study, workspace, results = load(options)
    while True:
        finished = show_status(study, workspace, cells_of(study, workspace), results, console)
        if finished or not options.follow:
            return
        time.sleep(2)


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
        console.print(summary(results))
        publish(study, workspace, results, console)
        console.print("\nharness ui optuna    opens Optuna's dashboard\nharness ui mlflow    opens MLflow's UI")

    makers: tuple[Callable[[Path], object], ...] = (make_tables, make_figures, make_report, say)
    for step, make in zip(STEPS, makers, strict=True):
        if options.step in (None, step):
            make(results)


def ui_arguments(parser: ArgumentParser) -> None:
    databases_arguments(parser)
    parser.add_argument("which", nargs="?", choices=("optuna", "mlflow"), help="default: both")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--optuna-port", type=port, default=8080)
    parser.add_argument("--mlflow-port", type=port, default=5000)


def ui(options: Namespace, console: Console) -> None:
    from harness.commands.servers import serve

    ports = {"optuna": options.optuna_port, "mlflow": options.mlflow_port}
    serve(
        workspace_of(options),
        options.host,
        {which: ports[which] for which in ([options.which] if options.which else ports)},
        console,
    )
