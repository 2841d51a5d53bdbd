"""What `harness plan` shows."""

from __future__ import annotations

from functools import partial
from statistics import fmean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.activations import massive
from harness.activations.store import ActivationStore
from harness.estimates.estimate import Estimate
from harness.estimates.spending import spending
from harness.estimates.sweep import Left, cells_left, more_at_most, wall
from harness.evaluation.measurements import measurements
from harness.files import read_record
from harness.narrow import keep_words
from harness.progress import duration
from harness.study.arms import ArmSpec, arms
from harness.study.cells import CellSpec
from harness.study.designed import designed
from harness.study.edits import asked, edits
from harness.study.known import Known
from harness.study.labels import describe
from harness.study.memory import FLOAT
from harness.study.plan import Cost, cost
from harness.study.recipe import Recipe, Scalar
from harness.study.spec import Study
from harness.sweep.latents import StudyLatents
from harness.workers.cell_folder import CellFolder
from harness.workspace import Workspace


def show_plan(
    study: Study,
    workspace: Workspace,
    known: Known | None,
    store: ActivationStore | None,
    console: Console,
    estimate: Estimate,
    price: float | None = None,
    look: bool = False,
) -> None:
    """Print the arms, what one cell of each costs, how long the missing cells would take, and what was edited.

    known and store: None while there are no activations, without which it is not known which cells are done.
    price: of an hour, of each GPU where there are GPUs. look: at trained SAEs, for what a judge of them costs.
    """
    found, cells = arms(study), known.cells if known else []
    console.print(Text.assemble((study.name, "bold"), f": {study.question}"))
    if words := designed(study):
        console.print(words, soft_wrap=True)
    table = Table(box=None, header_style="dim", pad_edge=False)
    untuned = [axis.name for axis in study.axes if not axis.tune]
    for axis in untuned:
        table.add_column(axis)
    counts = ("tuning cells", "reported cells") if study.tuning_seeds else ("cells",)
    for heading in ("tuned", *counts, "parameters", "FLOPs/token", "tokens", "memory", "time"):
        table.add_column(heading, justify="right")
    for arm in found:
        table.add_row(*_row(study, arm, estimate))
    console.print(keep_words(table), crop=False)
    source = store.fingerprint if store else None
    done = None if known is None else _done(study, workspace, cells)
    left = cells_left(study, found, cells, done or (), partial(_share, workspace))
    more = [] if known and known.final else more_at_most(study, found, cells)
    lines = [
        _total(study, found, done, left, more, estimate),
        *spending(estimate, left, known is not None, price),
        _kept(study, found, workspace, cells),
        *_to_measure(study, workspace, cells, store, estimate),
        *_to_interpret(study, found, workspace, store),
        *_judging(study, workspace, store, cells, look),
        *_precision(study, found, workspace),
        *_edits(study, workspace, source),
        *_weaknesses(store),
    ]
    for line in lines:
        console.print(line, soft_wrap=True)


def _edits(study: Study, workspace: Workspace, source: str | None) -> list[str]:
    """What has changed since the study was last run, if it was."""
    before = read_record(workspace.asked(study.name), ("source", "cells"))
    if before is None:
        return []
    return edits(before, asked(study, source)).lines()


def _precision(study: Study, found: list[ArmSpec], workspace: Workspace) -> list[str]:
    """What differences of scores of latents the study can show, where it asks for them."""
    if study.interpretability is None:
        return []
    from harness.estimates.latents import precision

    return [precision(study, study.interpretability, found, workspace.results(study.name))]


def _weaknesses(store: ActivationStore | None) -> list[str]:
    """What weakens every figure on the activations, if there are any yet."""
    return [] if store is None else [f"warning: {line}" for line in massive.warnings(store.manifest)]


def _row(study: Study, arm: ArmSpec, estimate: Estimate) -> list[str]:
    levels = [_words(name, level) for name, level in arm.levels.items()]
    tried = {name: dict.fromkeys(setting[name] for setting in arm.tuned) for name in arm.tuned[0]}
    tuned = ", ".join(
        f"{name} {' '.join(_words(name, level) for level in values)}" for name, values in tried.items()
    )
    tuning = [_range(arm.tuning_cells, arm.most_tuning_cells)] if study.tuning_seeds else []
    counts = [*tuning, _range(arm.reported_cells, arm.most_reported_cells)]
    price = _cost(study, arm.recipes[0], on_gpu=not estimate.machine.is_cpu)
    numbers = [*counts, *(f"{number:,}" for number in (price.parameters, price.flops_per_token, price.tokens))]
    time = duration(fmean(estimate.cell(recipe) for recipe in arm.recipes))
    return [*levels, tuned, *numbers, f"{price.bytes / 2**20:.0f} MiB", time]


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _cost(study: Study, recipe: Recipe, *, on_gpu: bool = False) -> Cost:
    """The cost of one of its cells."""
    stored = study.source.stored
    return cost(recipe, stored.width, study.known_features, stored.target_width, on_gpu=on_gpu)


def _words(axis: str, level: Scalar) -> str:
    return describe({axis: level}).removeprefix(f"{axis} ")


def _done(study: Study, workspace: Workspace, cells: list[CellSpec]) -> set[str]:
    """The cells that have a result."""
    return {cell.id for cell in cells if CellFolder(workspace.cell(cell.id), study.pruned_by).result()}


def _share(workspace: Workspace, cell: str) -> float:
    """Share of a cell's training that is still to come: it goes on from its last checkpoint."""
    folder = CellFolder(workspace.cell(cell))
    recipe, points = folder.description().get("recipe"), folder.points()
    if folder.new() or not points or not recipe:
        return 1.0
    return max(0.0, 1 - float(points[-1]["tokens"]) / float(recipe["tokens"]))


def _total(
    study: Study,
    found: list[ArmSpec],
    done: set[str] | None,
    left: list[Left],
    more: list[Left],
    estimate: Estimate,
) -> str:
    """How many cells there are, and how long those that are missing would take.

    more: cells that results may ask for besides.
    """
    counted = "" if done is None else f"{len(done)} done, {len(left)} to run: "
    unknown = "" if done is not None else "; no activations yet"
    time = f"about {duration(estimate.sweep(left).seconds)} with {estimate.machine.label}"
    text = f"{_count(study, found)}; {counted}{time} ({estimate.basis}{unknown})"
    tuning = [cell for cell in left if cell.phase == "tuning"]
    if study.tuning_seeds:
        text += f"; of which tuning: {len(tuning)} cells, about {duration(estimate.sweep(tuning).seconds)}"
    if more:
        seconds = estimate.sweep([*left, *more]).seconds
        text += f"; results may ask for up to {len(more)} more cells, about {duration(seconds)} in all"
    return text


def _to_measure(
    study: Study, workspace: Workspace, cells: list[CellSpec], store: ActivationStore | None, estimate: Estimate
) -> list[str]:
    """What of trained cells is not measured as it would be now, and what it would take to do so."""
    if store is None:
        return []
    asked = measurements(store.fingerprint, store.text_fingerprint)
    folders = {cell.id: CellFolder(workspace.cell(cell.id), study.pruned_by) for cell in cells}
    lacking = [cell for cell in cells if folders[cell.id].stale(asked, cell.recipe)]
    kept = [cell for cell in lacking if folders[cell.id].keeps_sae()]
    gone = [cell for cell in lacking if not folders[cell.id].keeps_sae()]
    workers = estimate.machine.workers
    lines = []
    if kept:
        seconds = wall([estimate.measuring(cell.recipe) for cell in kept], workers)
        lines.append(f"{len(kept)} cells to measure: about {duration(seconds)}")
    if gone:
        seconds = wall([estimate.cell(cell.recipe) for cell in gone], workers)
        lines.append(
            f"{len(gone)} cells are not measured and their SAEs were not kept: training them again "
            f"(harness run --train-again) takes about {duration(seconds)}"
        )
    return lines


def _to_interpret(
    study: Study, found: list[ArmSpec], workspace: Workspace, store: ActivationStore | None
) -> list[str]:
    """Of how many reported cells the latents are still to be interpreted, where the study asks about these."""
    if (asked := study.interpretability) is None:
        return []
    seeds = len(study.looks[0])  # what a look may add is not counted
    latents = None if store is None else StudyLatents(study, workspace, store)
    cells, done = len(found) * seeds, 0
    if latents is not None and latents.cells:
        cells, done = len(latents.cells), len(latents.known())
    return [f"latents to interpret: {asked.latents:,} of each of {cells - done} cells ({done} done)"]


def _judging(
    study: Study, workspace: Workspace, store: ActivationStore | None, cells: list[CellSpec], look: bool
) -> list[str]:
    """What a judge costs, if that is a language model behind an endpoint."""
    if study.interpretability is None or study.interpretability.judge.kind != "endpoint":
        return []
    from harness.estimates.judging import judging

    return judging(study, study.interpretability, study.interpretability.judge, workspace, store, cells, look)


def _kept(study: Study, found: list[ArmSpec], workspace: Workspace, cells: list[CellSpec]) -> str:
    """How many trained SAEs stay on disk and the room that they take, while the study runs and when it is done."""
    while_running, finally_kept = [], []  # bytes of each SAE
    for arm in found:
        each = [FLOAT * _cost(study, recipe).parameters for recipe in arm.recipes]
        largest = max(each)  # of a reported cell whose setting is not chosen yet
        seeds = study.looks[0]  # what a look or a longer list may add is not counted
        reported = [largest] * len(seeds)
        tuning = [size for size in each for _ in study.tuning_seeds] if arm.tuning_cells else []
        tried = reported if study.tuning_seeds else [size for size in each for _ in seeds]
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
        text = f"{tuning} tuning cells + {reported} reported cells = {tuning + reported} cells"
    else:
        text = f"{sum(len(arm.tuned) for arm in found)} settings × {len(study.looks[0])} seeds = {reported} cells"
    most = sum(arm.most_tuning_cells + arm.most_reported_cells for arm in found)
    return text if most == tuning + reported else f"{text}, at most {most}"
