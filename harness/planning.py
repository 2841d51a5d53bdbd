"""What `harness plan` shows."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.table import Table

from harness.scheduling.cell_folder import CellFolder
from harness.scheduling.display import duration
from harness.scheduling.workspace import Workspace
from harness.study.grid import Cell, describe, recipes
from harness.study.plan import cost
from harness.study.spec import Setting, Study

ASSUMED_RATE = 20e9  # FLOPs a second and worker, where no cell has been trained yet
ASSUMED = "20 GFLOP/s"


def show_plan(study: Study, workspace: Workspace, cells: list[Cell] | None, console: Console) -> None:
    """The arms, what a cell of each costs, and how long what is missing would take on one worker.

    cells: None while there are no activations, so that nobody can know which cells are done already.
    """
    console.print(f"[bold]{study.name}[/bold]: {study.question}")
    table = Table(box=None, header_style="dim", pad_edge=False)
    untuned = [axis.name for axis in study.axes if not axis.tune]
    for axis in untuned:
        table.add_column(axis, no_wrap=True)
    for heading in ("tuned", "cells", "parameters", "FLOPs/token", "tokens", "memory"):
        table.add_column(heading, justify="right", no_wrap=heading != "tuned")

    def arm(pair: tuple[Setting, object]) -> list[str]:
        return [describe({name: pair[0][name]}).removeprefix(f"{name} ") for name in untuned]

    for levels, members in groupby(sorted(recipes(study), key=arm), key=arm):
        group = list(members)
        tried = {name: [s[name] for s, _ in group] for name in group[0][0] if name not in untuned}
        tuned = ", ".join(f"{name} {' '.join(map(str, dict.fromkeys(values)))}" for name, values in tried.items())
        price = cost(group[0][1], study.source.width)
        numbers = (f"{len(group) * len(study.seeds)}", f"{price.parameters:,}", f"{price.flops_per_token:,}")
        table.add_row(*levels, tuned, *numbers, f"{price.tokens:,}", f"{price.bytes / 2**20:.0f} MiB")
    console.print(table)
    console.print(_total(study, workspace, cells), soft_wrap=True)


def _total(study: Study, workspace: Workspace, cells: list[Cell] | None) -> str:
    width = study.source.width
    settings = recipes(study)
    count = len(settings) * len(study.seeds)
    total = f"{len(settings)} settings × {len(study.seeds)} seeds = {count} cells"
    if cells is None:
        work = sum(cost(recipe, width).work for _, recipe in settings) * len(study.seeds)
        basis = f"assumed: {ASSUMED}; no activations yet"
        return f"{total}; about {duration(work / ASSUMED_RATE)} on one worker ({basis})"
    done = {cell.id: result for cell in cells if (result := CellFolder(workspace.cell(cell.id)).result())}
    missing = [cell for cell in cells if cell.id not in done]
    rate, basis = ASSUMED_RATE, f"assumed: {ASSUMED}"
    if done:
        seconds = sum(result["seconds"] for result in done.values())
        rate = sum(cost(cell.recipe, width).work for cell in cells if cell.id in done) / max(seconds, 1e-3)
        basis = "at the rate of those that are done"
    work = sum(cost(cell.recipe, width).work for cell in missing)
    return (
        f"{total}; {len(done)} done, {len(missing)} to run: about {duration(work / rate)} on one worker ({basis})"
    )
