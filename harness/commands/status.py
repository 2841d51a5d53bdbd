"""`harness status`: how far a study is, read from the cells' folders, whether or not a sweep is running."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands.cells import cells_of, store_of
from harness.commands.command import load, results_argument, study_argument
from harness.locks import is_held

if TYPE_CHECKING:
    from harness.study.known import Known
    from harness.study.spec import Study
    from harness.workers.cell_folder import CellFolder
    from harness.workspace import Workspace

SHOWN = 5  # failures listed
ENDED = ("complete", "diverged", "pruned")
ORDER = (*ENDED, "failed", "running", "begun", "missing")
UNKNOWN = "not chosen yet"


def status_arguments(parser: ArgumentParser) -> None:
    study_argument(parser)
    results_argument(parser)
    parser.add_argument("--follow", action="store_true", help="repeat every two seconds until all cells are done")


def status(options: Namespace, console: Console) -> None:
    study, workspace, results = load(options)
    while True:
        prepared = _is_prepared(study, workspace, console)
        finished = prepared and show_status(study, workspace, cells_of(study, workspace), results, console)
        if finished or not options.follow:
            return
        time.sleep(2)


def _is_prepared(study: Study, workspace: Workspace, console: Console) -> bool:
    """Whether the study's activations are there. If not, says so, and which process makes them."""
    from harness.sources.prepare import preparer

    if study.source.store(workspace.data).exists():
        return True
    process = preparer(study.source, workspace.data)
    rest = f"{process} is making them" if process else f"to make them: harness run {study.file.path}"
    console.print(f"{study.name}: no activations yet; {rest}", soft_wrap=True)
    return False


def show_status(study: Study, workspace: Workspace, found: Known, results: Path, console: Console) -> bool:
    """Print the counts, what failed, and where the results are. Returns whether every cell has a result.

    found: the cells known so far; the others are "not chosen yet" until the tuning cells of their arms have ended.
    """
    from harness.sweep.controller import read_lock
    from harness.workers.cell_folder import CellFolder

    cells = found.cells
    states = {cell.id: state_of(CellFolder(workspace.cell(cell.id), study.pruned_by)) for cell in cells}
    counts = Counter(state for state, _ in states.values())
    counts[UNKNOWN] = found.to_come
    words = " · ".join(f"{counts[state]} {state}" for state in (*ORDER, UNKNOWN) if counts[state])
    more = " or more" if study.grows and not found.final else ""
    console.print(f"{study.name}: {found.size}{more} cells: {words}", soft_wrap=True)
    for phase in ("tuning", "reported") if study.tuning_seeds else ():
        of_phase = [cell.id for cell in cells if cell.phase == phase]
        done = sum(states[cell][0] in ENDED for cell in of_phase)
        total = len(of_phase) + (counts[UNKNOWN] if phase == "reported" else 0)
        console.print(f"  {phase}: {done} of {total} done")
    if owner := read_lock(workspace.controller(study.name)):
        console.print(f"  run by {owner}")
    if line := _latents(study, workspace):
        console.print(line)
    failed = [(cell, reason) for cell in cells if (reason := states[cell.id][1])]
    for cell, reason in failed[:SHOWN]:
        console.print(f"  {cell.label}: {reason}")
        logs = (workspace.cell(cell.id) / "log.txt", workspace.log(study.name))  # the cell's own, if there is one
        log = next((log for log in logs if log.exists()), None)
        if log is not None and states[cell.id][0] == "failed":
            console.print(f"    log: {log}")
    if len(failed) > SHOWN:
        console.print(f"  and {len(failed) - SHOWN} more")
    if (results / "report.html").exists():
        console.print(f"  report: {results / 'report.html'}")
    return found.final and sum(counts[state] for state in ENDED) == len(cells)


def _latents(study: Study, workspace: Workspace) -> str:
    """How many cells' latents are interpreted, where the study asks about these."""
    from harness.sweep.latents import StudyLatents

    if study.interpretability is None:
        return ""
    latents = StudyLatents(study, workspace, store_of(study, workspace))
    if not latents.cells:
        return "  latents: interpreted when all cells have ended"
    cells, nulls = len(latents.cells), len(latents.nulls.left())
    rest = f", {nulls} nulls to measure" if nulls else ""
    return f"  latents: {len(latents.known())} of {cells} cells interpreted{rest}"


def state_of(folder: CellFolder) -> tuple[str, str | None]:
    """One of ORDER, and the reason where there is one."""
    for record in (folder.result(), folder.failure()):
        if record is not None:
            return record["state"], record["reason"]
    if not folder.path.exists():
        return "missing", None
    if is_held(folder.path / "lock"):
        return "running", None
    return ("begun" if folder.curve.exists() else "missing"), None
