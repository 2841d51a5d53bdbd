"""Making what a source needs, before its studies are run or by `harness run` itself."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.command import workspace_of
from harness.commands.paths import check_files, check_writable
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.sources.source import Source, Step
    from harness.workspace import Workspace


def prepare_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="a source file, as in studies/sources/docstrings.yaml")
    parser.add_argument("--step", help="make this step again, as in `activations` (default: all that is missing)")


def prepare(options: Namespace, console: Console) -> None:
    from harness.sources.kinds import load_source

    source, workspace = load_source(options.source), workspace_of(options)
    if options.step is None:
        prepare_missing(source, workspace, console)
    else:
        _prepare_step(source, _step(source, options.step), workspace, console)


def prepare_missing(source: Source, workspace: Workspace, console: Console) -> None:
    """Make whatever is missing of a source, so that a study can be run without DVC."""
    from harness.sources import prepare

    results = workspace.results(source.name)
    if steps := prepare.missing(source, workspace.data):
        _check_paths(source, steps, workspace)
        prepare.prepare_missing(source, workspace.data, results, partial(console.print, soft_wrap=True))


def _prepare_step(source: Source, step: Step, workspace: Workspace, console: Console) -> None:
    from harness.sources import prepare

    results = workspace.results(source.name)
    _check_paths(source, [step], workspace)
    prepare.prepare_step(source, step, workspace.data, results, partial(console.print, soft_wrap=True))


def _step(source: Source, name: str) -> Step:
    steps = {step.name: step for step in source.steps()}
    if name not in steps:
        expected = f"expected one of {', '.join(steps)}, the steps of kind {source.kind!r}"
        raise UserError(f"{source.path}: --step: {expected}, got {name!r}")
    return steps[name]


def _check_paths(source: Source, steps: Iterable[Step], workspace: Workspace) -> None:
    """Raise UserError where something cannot be written that these steps write."""
    from harness.sources.prepare import metrics_file

    check_writable(source.folder(workspace.data))
    results = workspace.results(source.name)
    for step in steps:
        if step.has_metrics:
            check_writable(results)
            check_files(metrics_file(step, results))
