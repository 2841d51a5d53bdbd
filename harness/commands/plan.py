"""Showing what a study would run and cost, before anything runs."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.commands.cells import cells_of, store_of
from harness.commands.command import count, load, study_argument
from harness.commands.sweeping import count_gpus, cpu_count
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.estimates.estimate import Estimate
    from harness.estimates.machine import Machine, Widths
    from harness.estimates.measure import Measured
    from harness.sources.model_cost import ModelCost
    from harness.study.cells import CellSpec
    from harness.study.spec import Study
    from harness.workspace import Workspace

HERE = ("cpu", "cuda")  # devices of this machine


def plan_arguments(parser: ArgumentParser) -> None:
    study_argument(parser)
    parser.add_argument(
        "--device",
        type=str.lower,
        help="what to plan for: cpu or cuda of this machine (default: cuda if there is a GPU), or GPUs that are "
        "not here, by name: h200, h100, a100",
    )
    parser.add_argument(
        "--workers",
        type=count,
        help="as of `harness run`; of GPUs that are not here, their number (default: 1)",
    )
    parser.add_argument("--threads", type=count, default=1, help="CPU threads per worker (default: 1)")
    parser.add_argument(
        "--price", type=_price, metavar="P", help="of an hour, of each GPU where there are GPUs: adds the price"
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="time a few steps of each kind of cell on this machine first, half a second each; and count the "
        "calls of a judge behind an endpoint, by some latents of the SAEs that are trained",
    )


def plan(options: Namespace, console: Console) -> None:
    from harness.commands.plan_table import show_plan
    from harness.study.fit import check_fits

    study, workspace, _ = load(options)
    stored = study.source.stored
    check_fits(study, stored.tokens, study.source.path)
    machine = _machine(options, (stored.width, stored.target_width))
    prepared = study.source.store(workspace.data).exists()
    found = cells_of(study, workspace) if prepared else None
    store = store_of(study, workspace) if prepared else None
    estimate = _estimate(study, workspace, found.cells if found else [], machine, options.measure)
    show_plan(study, workspace, found, store, console, estimate, options.price, options.measure)


def _price(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"expected a price of an hour, 0 or more, got {text!r}")
    return value


def _machine(options: Namespace, widths: Widths) -> Machine:
    """What `--device` names. Raises UserError if there is no such thing."""
    from harness.estimates.machine import cpu, gpu
    from harness.study.step_time import DEVICES

    device = options.device
    if device not in (None, *HERE, *DEVICES):
        raise UserError(f"--device: expected one of {', '.join((*HERE, *DEVICES))}, got {device!r}")
    if device in DEVICES:
        if options.measure:
            raise UserError("--measure: expected a device of this machine (--device cpu or cuda), or none")
        return gpu(device, widths, options.workers or 1)
    gpus = count_gpus() if device != "cpu" else 0
    if device == "cuda" and not gpus:
        raise UserError("--device: expected 'cpu', or a GPU by name, since torch finds no GPU here")
    if not gpus:
        return cpu(widths, options.workers or max(1, cpu_count() // options.threads), options.threads)
    return _gpus_here(widths, options.workers or gpus, gpus)


def _gpus_here(widths: Widths, workers: int, gpus: int) -> Machine:
    import torch

    from harness.estimates.machine import gpu, sharing
    from harness.study.step_time import known_device

    name, memory = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory
    known = known_device(name)
    machine = gpu(known or "a100", widths, workers)
    basis = machine.basis if known else f"no figures for {name}: estimated as for an A100; use --measure"
    label = f"{workers} × {name}" if workers <= gpus else f"{workers} workers on {gpus} × {name}"
    return sharing(replace(machine, label=label, device=name, memory=memory, basis=basis), gpus)


def _estimate(
    study: Study, workspace: Workspace, cells: list[CellSpec], machine: Machine, measured_here: bool
) -> Estimate:
    """From the data sheet, from the cells that such a machine has done, and from steps that are timed now."""
    from harness.estimates.estimate import Estimate
    from harness.estimates.spending import known_model_cost
    from harness.estimates.times import StepTimes, ratios
    from harness.workers.cell_folder import CellFolder

    model = known_model_cost(study.source)
    if isinstance(model, UserError):
        model = None
    steps, basis = StepTimes(machine.step, {}), machine.basis
    speed = machine.model_speed(4 if model is None else model.bytes_per_number)
    if measured_here:
        found = _measured(study, machine, model)
        steps, speed = StepTimes(machine.step, found.steps), found.model or speed
        basis = found.said
    estimate = Estimate(study, machine, steps, model, speed, basis)
    results = ((cell.recipe, CellFolder(workspace.cell(cell.id)).result()) for cell in cells)
    done = [(recipe, result) for recipe, result in results if result is not None]
    if known := ratios(done, machine.did, estimate.cell):
        return replace(estimate, ratios=known, basis="at the speed of the cells that are done")
    return estimate


def _measured(study: Study, machine: Machine, model: ModelCost | None) -> Measured:
    from harness.estimates.measure import measure
    from harness.study.arms import arms

    stored = study.source.stored
    recipes = [recipe for arm in arms(study) for recipe in arm.recipes]
    asked: dict[str, Any] | None = None
    if model is not None:
        asked = {"model": model.config, "context": model.context, "dtype": model.dtype}
    return measure(recipes, (stored.width, stored.target_width), machine, asked)
