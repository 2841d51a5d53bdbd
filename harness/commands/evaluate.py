"""`harness evaluate`: measure trained cells where a metric is new or has changed, and train nothing."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from rich.console import Console

from harness.commands.cells import known_cells, store_of
from harness.commands.command import load
from harness.commands.sweeping import (
    EXIT_CODES,
    check_paths,
    engine_of,
    sweep_and_export,
    sweep_arguments,
)
from harness.errors import UserError
from harness.output import dispensable_output

EVALUATED = """`harness run` does this, too. A cell can be measured again if its SAE was kept (`keep` in the study
file); for the others, the tables say which figures are not measured."""


def evaluate_arguments(parser: ArgumentParser) -> None:
    parser.description = f"{parser.description}\n\n{EVALUATED}\n\n{EXIT_CODES}"
    sweep_arguments(parser)
    parser.set_defaults(checkpoint_seconds=None)


def evaluate(options: Namespace, console: Console) -> None:
    with dispensable_output():
        _evaluate(options, console)


def _evaluate(options: Namespace, console: Console) -> None:
    from harness.sweep.controller import Sweep
    from harness.sweep.export import check_owner
    from harness.sweep.interrupts import Interrupts
    from harness.sweep.latents import check_text

    Interrupts()
    study, workspace, results = load(options)
    check_owner(results, study, workspace)
    check_paths(study, workspace, results)
    store = store_of(study, workspace)
    check_text(study, store)
    store.verify()
    sweep = Sweep(study, known_cells(study, store, workspace), store, workspace, *engine_of(options), train=False)
    if not sweep.progress.cells:
        raise UserError(
            f"{options.study}: expected cells that are trained; train them: harness run {options.study}"
        )
    sweep_and_export(sweep, options, results, console)
