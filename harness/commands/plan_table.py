"""What `harness plan` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.activations import massive
from harness.activations.store import ActivationStore
from harness.evaluation.measurements import measurements
from harness.files import read_record
from harness.progress import duration
from harness.study.cells import ArmSpec, CellSpec, Phase, arms
from harness.study.edits import asked, edits
from harness.study.labels import describe
from harness.study.memory import FLOAT
from harness.study.plan import Cost, cost
from harness.study.recipe import Recipe, Scalar
from harness.study.spec import Study
from harness.workers.cell_folder import CellFolder
from harness.workspace import Workspace

ASSUMED_RATE = 20e9  # FLOPs per second and worker, if no cell has been trained yet
ASSUMED = "20 GFLOP/s"


def show_plan(
    study: Study,
    workspace: Workspace,
    cells: list[CellSpec] | None,
    store: ActivationStore | None,
    console: Console,
) -> None:
    """Print the arms, what one cell of each costs, how long the missing cells would take, and what was edited.

    cells and store: None while there are no activations, without which it is not known which cells are done.
    """
    found = arms(study)
    console.print(Text.assemble((study.name, "bold"), f": {study.question}"))
    table = Table(box=None, header_style="dim", pad_edge=False)
    untuned = [axis.name for axis in study.axes if not axis.tune]
    for axis in untuned:
        table.add_column(axis, no_wrap=True)
    counts = ("tuning cells", "reported cells") if study.tuning_seeds else ("cells",)
    for heading in ("tuned", *counts, "parameters", "FLOPs/token", "tokens", "memory"):
        table.add_column(heading, justify="right", no_wrap=heading not in ("tuned", *counts))
    for arm in found:
        table.add_row(*_row(study, arm))
    console.print(table)
    console.print(_total(study, found, workspace, cells), soft_wrap=True)
    console.print(_kept(study, found, workspace, cells or []), soft_wrap=True)
    for line in _to_measure(study, workspace, cells or [], store):
        console.print(line, soft_wrap=True)
    source = store.fingerprint if store else None
    for line in [*_edits(study, workspace, source), *_weaknesses(study, workspace, source)]:
        console.print(line, soft_wrap=True)


def _edits(study: Study, workspace: Workspace, source: str | None) -> list[str]:
    """What has changed since the study was last run, if it was."""
    before = read_record(workspace.asked(study.name), ("source", "cells"))
    if before is None:
        return []
    return edits(before, asked(study, source)).lines()


def _weaknesses(study: Study, workspace: Workspace, source: str | None) -> list[str]:
    """What weakens every figure on the activations, if there are any yet."""
    if source is None:
        return []
    store = ActivationStore.open(study.source.store(workspace.data))
    return [f"warning: {line}" for line in massive.warnings(store.manifest)]


def _row(study: Study, arm: ArmSpec) -> list[str]:
    levels = [_words(name, level) for name, level in arm.levels.items()]
    tried = {name: dict.fromkeys(setting[name] for setting in arm.tuned) for name in arm.tuned[0]}
    tuned = ", ".join(
        f"{name} {' '.join(_words(name, level) for level in values)}" for name, values in tried.items()
    )
    counts = (arm.tuning_cells, arm.reported_cells) if study.tuning_seeds else (arm.reported_cells,)
    price = _cost(study, arm.recipes[0])
    numbers = [f"{number:,}" for number in (*counts, price.parameters, price.flops_per_token, price.tokens)]
    return [*levels, tuned, *numbers, f"{price.bytes / 2**20:.0f} MiB"]


def _cost(study: Study, recipe: Recipe) -> Cost:
    """The cost of one of its cells."""
    stored = study.source.stored
    return cost(recipe, stored.width, study.known_features, stored.target_width)


def _words(axis: str, level: Scalar) -> str:
    return describe({axis: level}).removeprefix(f"{axis} ")


def _total(study: Study, found: list[ArmSpec], workspace: Workspace, cells: list[CellSpec] | None) -> str:
    """How many cells there are, and how long those that are missing would take."""
    results = {cell.id: CellFolder(workspace.cell(cell.id), study.pruned_by).result() for cell in cells or ()}
    done = {cell: result for cell, result in results.items() if result}
    left = _to_run(study, found, cells or [], done)
    rate, basis = _rate(study, cells or [], done)
    if cells is None:
        basis += "; no activations yet"

    def time(works: list[float]) -> str:
        return f"about {duration(sum(works) / rate)}"

    counted = "" if cells is None else f"{len(done)} done, {len(left)} to run: "
    text = f"{_count(study, found)}; {counted}{time([work for _, work in left])} on one worker ({basis})"
    tuning = [work for phase, work in left if phase == "tuning"]
    return f"{text}; of which tuning: {len(tuning)} cells, {time(tuning)}" if study.tuning_seeds else text


def _rate(study: Study, cells: list[CellSpec], done: Mapping[str, dict[str, Any]]) -> tuple[float, str]:
    """FLOPs per second and worker, and where that is from; `done`: results by cell."""
    timed = {cell: result for cell, result in done.items() if "seconds" in result}  # not of pruned ones
    if not timed:
        return ASSUMED_RATE, f"assumed: {ASSUMED}"
    seconds = sum(result["seconds"] for result in timed.values())
    prices = {cell.id: _cost(study, cell.recipe) for cell in cells if cell.id in timed}
    worked = sum(price.work_on(timed[cell]["tokens"]) for cell, price in prices.items())
    return worked / max(seconds, 1e-3), "at the speed of the cells that are done"


def _to_measure(
    study: Study, workspace: Workspace, cells: list[CellSpec], store: ActivationStore | None
) -> list[str]:
    """What of trained cells is not measured as it would be now, and what it would take to do so."""
    if store is None:
        return []
    asked = measurements(store.fingerprint, store.text_fingerprint)
    folders = {cell.id: CellFolder(workspace.cell(cell.id), study.pruned_by) for cell in cells}
    lacking = [cell for cell in cells if folders[cell.id].stale(asked, cell.recipe)]
    results = {cell: result for cell, folder in folders.items() if (result := folder.result())}
    rate, _ = _rate(study, cells, results)
    kept = [cell for cell in lacking if folders[cell.id].keeps_sae()]
    gone = [cell for cell in lacking if not folders[cell.id].keeps_sae()]
    tokens = study.source.stored.tokens["held_out"]
    measuring = sum(_cost(study, cell.recipe).work_on(tokens) / 3 for cell in kept)  # no backward pass
    training = sum(_cost(study, cell.recipe).work for cell in gone)
    lines = []
    if kept:
        lines.append(f"{len(kept)} cells to measure: about {duration(measuring / rate)} on one worker")
    if gone:
        lines.append(
            f"{len(gone)} cells are not measured and their SAEs were not kept: training them again "
            f"(harness run --train-again) takes about {duration(training / rate)} on one worker"
        )
    return lines


def _kept(study: Study, found: list[ArmSpec], workspace: Workspace, cells: list[CellSpec]) -> str:
    """How many trained SAEs stay on disk and the room that they take, while the study runs and when it is done."""
    while_running, finally_kept = [], []  # bytes of each SAE
    for arm in found:
        each = [FLOAT * _cost(study, recipe).parameters for recipe in arm.recipes]
        largest = max(each)  # of a reported cell whose setting is not chosen yet
        reported = [largest] * len(study.seeds)
        tuning = [size for size in each for _ in study.tuning_seeds] if arm.tuning_cells else []
        tried = reported if study.tuning_seeds else [size for size in each for _ in study.seeds]
        by_keep = {"none": [], "reported": reported, "all": [*tuning, *tried]}
        finally_kept += by_keep[study.keep]
        while_running += {**by_keep, "reported": tried}[study.keep]
    text = f"trained SAEs kept (keep: {study.keep}): {_saes(finally_kept)}"
    if while_running != finally_kept:
        text += f"; until the sweep is done {_saes(while_running)}"
    there = [size for cell in cells if (size := CellFolder(workspace.cell(cell.id)).sae_bytes())]
    return f"{text}; there now: {_saes(there)}" if there else text


def _saes(sizes: list[int]) -> str:
    return f"{len(sizes)}, {sum(sizes) / 2**20:.1f} MiB" if sizes else "none"


def _count(study: Study, found: list[ArmSpec]) -> str:
    tuning, reported = sum(arm.tuning_cells for arm in found), sum(arm.reported_cells for arm in found)
    if study.tuning_seeds:
        return f"{tuning} tuning cells + {reported} reported cells = {tuning + reported} cells"
    return f"{sum(len(arm.tuned) for arm in found)} settings × {len(study.seeds)} seeds = {reported} cells"


def _to_run(
    study: Study, found: list[ArmSpec], cells: list[CellSpec], done: Container[str]
) -> list[tuple[Phase, float]]:
    """Phase and work of each cell without a result; a cell that is not chosen yet has the mean work of its arm."""
    left = [(cell.phase, _cost(study, cell.recipe).work) for cell in cells if cell.id not in done]
    known = Counter((cell.phase, *cell.arm.values()) for cell in cells)
    for arm in found:
        mean = fmean(_cost(study, recipe).work for recipe in arm.recipes)
        left += [("tuning", mean)] * (arm.tuning_cells - known["tuning", *arm.levels.values()])
        left += [("reported", mean)] * (arm.reported_cells - known["reported", *arm.levels.values()])
    return left
