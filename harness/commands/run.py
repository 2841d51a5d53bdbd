"""`harness run`: train and measure the cells of a study that have no result yet."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from rich.console import Console

from harness.commands.cells import known_cells, store_of
from harness.commands.command import load, seconds
from harness.commands.prepare import prepare_missing
from harness.commands.sweeping import (
    EXIT_CODES,
    check_paths,
    engine_of,
    sweep_and_export,
    sweep_arguments,
)
from harness.output import dispensable_output
from harness.study import checkpoint_times


def run_arguments(parser: ArgumentParser) -> None:
    parser.description = f"{parser.description}\n\n{EXIT_CODES}"
    sweep_arguments(parser)
    parser.add_argument(
        "--checkpoint-seconds",
        type=seconds,
        help=f"time between two checkpoints (default: {checkpoint_times.SECONDS:g}, or more where they would take "
        f"over {100 * checkpoint_times.SHARE:g} %% of the time)",
    )
    parser.add_argument(
        "--train-again",
        action="store_true",
        help="also train the cells again that lack a measurement and whose SAEs were not kept",
    )


def run(options: Namespace, console: Console) -> None:
    with dispensable_output():  # training goes on even if the output cannot be written
        _run(options, console)


def _run(options: Namespace, console: Console) -> None:
    from harness.study.fit import check_fits
    from harness.sweep.controller import Sweep
    from harness.sweep.export import check_owner
    from harness.sweep.interrupts import Interrupts
    from harness.sweep.latents import check_text

    Interrupts()  # making activations may take longer than the sweep
    study, workspace, results = load(options)
    check_fits(study, study.source.stored.tokens, study.source.path)  # before anything long starts
    check_owner(results, study, workspace)
    check_paths(study, workspace, results)
    prepare_missing(study.source, workspace, console)
    store = store_of(study, workspace)
    check_text(study, store)
    store.verify()
    known = known_cells(study, store, workspace)
    sweep = Sweep(study, known, store, workspace, *engine_of(options), train_again=options.train_again)
    sweep_and_export(sweep, options, results, console)
