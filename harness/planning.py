"""What `harness plan` shows."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from harness.scheduling.cell_folder import CellFolder
from harness.scheduling.display import duration
from harness.scheduling.workspace import Workspace
from harness.study.grid import Cell, recipes
from harness.study.plan import cost
from harness.study.spec import Study

ASSUMED_RATE = 20e9  # FLOPs a second and worker, where no cell has been trained yet
ASSUMED = "20 GFLOP/s"


def show_plan(study: Study, workspace: Workspace, cells: list[Cell] | None, console: Console) -> None:
    """The settings, the cost of a cell of each, and how long what is missing would take on one worker.

    cells: None while there are no activations, so that nobody can know which cells are done already.
    """
    width = study.source.language_model.width
    table = Table(box=None, header_style="bold", title=f"{study.name}: {study.question}", title_justify="left")
    for axis in study.axes:
        table.add_column(axis.name)
    for heading in ("parameters", "FLOPs a token", "tokens", "memory"):
        table.add_column(heading, justify="right")
    for setting, recipe in recipes(study):
        price = cost(recipe, width)
        numbers = (f"{price.parameters:,}", f"{price.flops_per_token:,}", f"{price.tokens:,}")
        table.add_row(*map(str, setting.values()), *numbers, f"{price.bytes / 2**20:.0f} MiB")
    console.print(table)
    console.print(_total(study, workspace, cells, width), highlight=False, soft_wrap=True)


def _total(study: Study, workspace: Workspace, cells: list[Cell] | None, width: int) -> str:
    settings = recipes(study)
    total = f"{len(settings)} settings × {len(study.seeds)} seeds = {len(settings) * len(study.seeds)} cells"
    if cells is None:
        work = sum(cost(recipe, width).work for _, recipe in settings) * len(study.seeds)
        basis = f"assumed: {ASSUMED}; no activations yet"
        return f"{total}; about {duration(work / ASSUMED_RATE)} on one worker ({basis})"
    done = {cell.id: result for cell in cells if (result := CellFolder(workspace.cell(cell.id)).result())}
    missing = [cell for cell in cells if cell.id not in done]
    rate, basis = ASSUMED_RATE, f"assumed: {ASSUMED}"
    if done:
        trained = [cell for cell in cells if cell.id in done]
        seconds = sum(done[cell.id]["seconds"] for cell in trained)
        rate = sum(cost(cell.recipe, width).work for cell in trained) / max(seconds, 1e-3)
        basis = "at the rate of those that are done"
    work = sum(cost(cell.recipe, width).work for cell in missing)
    return (
        f"{total}; {len(done)} done, {len(missing)} to run: about {duration(work / rate)} on one worker ({basis})"
    )
